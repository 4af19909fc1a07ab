"""One reader's answers, from a process of its own.

Runtimes write to stdout and stderr from C++, hold hundreds of megabytes, and one that crashes must
not take the build along. Questions and answers are JSON in files.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pocketlm.runtime_py.lint import readers
from pocketlm.runtime_py.lint.own_process import limit_processor_time, run_module
from pocketlm.runtime_py.lint.reader import Questions, ReaderOutput


def answers_of(name: str, folder: Path, questions: Questions) -> ReaderOutput:
    """Ask a reader about the files of a bundle.

    Raises:
        RunError: the reader cannot open the files, or ended without an answer.
    """
    with tempfile.TemporaryDirectory() as temporary:
        asked, answered = Path(temporary) / "questions.json", Path(temporary) / "answers.json"
        asked.write_text(json.dumps({"folder": str(folder.absolute()), **asdict(questions)}))
        what = f"{name} on the tokenizer files of {folder}"
        run_module("pocketlm.runtime_py.lint.answering", (name, asked, answered), what)
        document: Mapping[str, Any] = json.loads(answered.read_bytes())
    return ReaderOutput(**document)


def main(name: str, asked: str, answered: str) -> None:
    """Answer the questions of a file."""
    request = json.loads(Path(asked).read_bytes())
    folder = Path(request.pop("folder"))
    answers = readers.load(name).answer(folder, Questions(**request))
    Path(answered).write_text(json.dumps(asdict(answers)))


if __name__ == "__main__":
    limit_processor_time()
    main(*sys.argv[1:])
