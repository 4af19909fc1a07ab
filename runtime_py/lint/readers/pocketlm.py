"""Our host's tokenizer and templates: what the others are held against."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pocketlm.runtime_py.lint.reader import Questions, Reader, ReaderOutput

if TYPE_CHECKING:
    from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer


def _answer(folder: Path, questions: Questions) -> ReaderOutput:
    from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer

    return answers_with(LibraryTokenizer.from_file(folder / "tokenizer.json"), folder, questions)


def answers_with(loaded: "LibraryTokenizer", folder: Path, questions: Questions) -> ReaderOutput:
    """Answer with the bundle's tokenizer where it is loaded already."""
    from pocketlm.runtime_py.tokenizer import Tokenizer

    tokenizer = Tokenizer(loaded, None)
    ids = [tokenizer.encode(text) for text in questions.texts]
    chats, errors = _render(folder, questions)
    return ReaderOutput(ids, [tokenizer.decode(found) for found in ids], chats, errors)


def _render(folder: Path, questions: Questions) -> tuple[list[str | None], list[str]]:
    from pocketlm.runtime_py.chat_template import (
        MOMENT,
        TEMPLATE_FILE,
        ChatTemplate,
        TemplateError,
        special_tokens,
    )

    if not (folder / TEMPLATE_FILE).exists():
        return [], []
    config = folder / "tokenizer_config.json"
    tokens = special_tokens(json.loads(config.read_bytes())) if config.exists() else {}
    # newline="" keeps a template's carriage returns.
    with (folder / TEMPLATE_FILE).open(encoding="utf-8", newline="") as file:
        template = ChatTemplate(file.read(), tokens, moment=MOMENT)
    results = template.try_all(list(questions.chats)).results
    rendered = [None if isinstance(result, TemplateError) else result for result in results]
    return rendered, [str(result) for result in results if isinstance(result, TemplateError)]


READER = Reader("pocketlm", "tokenizers", ("tokenizer.json",), _answer)
