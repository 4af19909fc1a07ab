"""Question: how much slower than the session itself does `pocketlm eval` read a text?

Method: one session for each backend of a bundle. It reads the same tokens, one a call from empty
caches, and then they are evaluated through it; in turn, after one round of each to warm up. No
reference is read beside: that of `--against` costs what the float model costs. The goal is 0.9 of
the session's speed.
Units: tokens a second on an otherwise idle machine, medians of the rounds with least and most.
Command: python -m benchmarks.eval_speed build/demo/pico
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.documents import RESULTS, save, today, versions
from benchmarks.processes import ROOT, Guard
from pocketlm.evaluation.evaluation import evaluate
from pocketlm.evaluation.kept_passages import KeptPassages
from pocketlm.evaluation.logit_rows import ArtifactRows, LogitRows, ReportLayers
from pocketlm.evaluation.passages import Passage, limited, text_passages
from pocketlm.evaluation.subject import artifact_subject
from pocketlm.runtime_py.bundle import open_bundle
from pocketlm.runtime_py.session import Session, open_session

TEXT = ROOT / "docs" / "devices.md"
GOAL = 0.9


def measure(folder: Path, backend: str, tokens: int, rounds: int, threads: int) -> dict[str, Any]:
    """Measure one artifact."""
    subject = artifact_subject(str(folder), backend, threads)
    text = TEXT.read_text(encoding="utf-8")
    passages = limited(text_passages(text, subject.tokenizer, subject.longest), tokens)
    count = sum(len(passage.places) for passage in passages)
    times: dict[str, list[float]] = {"session": [], "eval": []}
    with open_session(open_bundle(str(folder)), backend, threads) as session:

        @contextmanager
        def loaded(report: ReportLayers) -> Iterator[LogitRows]:
            yield ArtifactRows(session)

        opened = replace(subject, load=loaded)

        def evaluated() -> None:
            with tempfile.TemporaryDirectory() as kept:
                evaluate(opened, None, passages, KeptPassages(Path(kept)), lambda *of: None)

        for number in range(rounds + 1):
            for name, work in (("session", lambda: _read(session, passages)), ("eval", evaluated)):
                seconds = _timed(work)
                if number:
                    times[name].append(seconds)
    speeds = {name: sorted(count / seconds for seconds in found) for name, found in times.items()}
    ratio = median(a / b for a, b in zip(times["session"], times["eval"], strict=True))
    figures = {
        name: {"median": round(median(s), 1), "least": round(s[0], 1), "most": round(s[-1], 1)}
        for name, s in speeds.items()
    }
    print(
        f"{folder.name} on {backend:12} session {figures['session']['median']:7.1f} tokens/s  "
        f"eval {figures['eval']['median']:7.1f} tokens/s  ratio {ratio:.3f} of {GOAL}",
        flush=True,
    )
    return {"backend": backend, "tokens": count, "tokens_per_s": figures, "ratio": round(ratio, 3)}


def _read(session: Session, passages: Sequence[Passage]) -> None:
    for passage in passages:
        session.reset()
        for token in passage.ids[:-1]:
            session.prefill((token,))


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    """Read the command line, run, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=machine.physical_cores())
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--no-save", action="store_true", help="print only")
    given = parser.parse_args()
    found = []
    for folder in given.bundles:
        for backend in open_bundle(str(folder)).manifest.backends:
            with Guard(given.force).alone():
                figures = measure(folder, backend, given.tokens, given.rounds, given.threads)
            found.append({"bundle": folder.name, **figures})
    document = {
        "date": today(),
        "threads": given.threads,
        "machine": machine.describe(),
        "versions": versions("pocketlm", "torch", "executorch", "onnxruntime"),
        "goal": GOAL,
        "evaluations": found,
    }
    if not given.no_save:
        save(document, RESULTS / f"{document['date']}-eval-speed.json")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
