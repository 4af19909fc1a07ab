"""The golden answers on a device: what its runner is to feed and keep, and what came back.

The runner keeps only the columns that a digest has, because a row may be a megabyte.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.memory.events import Call
from pocketlm.device_tests.profiling.document import AnswerDifference, Answers
from pocketlm.runtime_py import verification
from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.golden_cases import GoldenCase
from pocketlm.runtime_py.logits_digest import LogitsDigest
from pocketlm.runtime_py.replay import ReplayStep, pieces_of, replays_of
from pocketlm.runtime_py.tokenizer import read_tokenizer
from pocketlm.runtime_py.verification_result import Replay


def script(bundle: Bundle, backend: str) -> tuple[str, ...]:
    """Return the runner's commands that replay the golden answers.

    Raises:
        RunError: the bundle's answers or its tokenizer cannot be read.
    """
    golden = verification.read_golden(bundle, backend)
    lines = [f"choices {verification.choices(read_tokenizer(bundle), bundle)}"]
    for case, replay in replays_of(golden):
        lines.append("reset")
        for digest, kept, tokens in _calls(case, replay):
            if kept:
                lines.append("columns " + " ".join(map(str, digest.ids if digest else (0,))))
            lines.append(f"feed{'+' if kept else ''} " + " ".join(map(str, tokens)))
    return (*lines, "reset", "columns", f"choices {bundle.manifest.vocab_size}")


def compare_answers(
    bundle: Bundle, backend: str, calls: Sequence[Call], logits: NDArray[np.float32]
) -> Answers:
    """Hold what a device answered to `script` against the golden answers.

    Args:
        calls: of the whole run, in order; those that kept a row are the answers.
        logits: the kept columns, one after the other.

    Raises:
        DeviceError: the run ended before the last answer.
    """
    golden = verification.read_golden(bundle, backend)
    replays = replays_of(golden)
    kept = iter([call for call in calls if call.is_kept])
    start = 0

    def answers(case: GoldenCase, replay: Replay) -> Iterator[ReplayStep]:
        nonlocal start
        for digest, is_kept, _ in _calls(case, replay):
            if not is_kept:
                continue
            call, columns = next(kept, None), len(digest.ids) if digest else 1
            if call is None or start + columns > len(logits):
                raise DeviceError(
                    f"{case.name}: the run on the device ended before its answers did; run it again"
                )
            row = logits[start : start + columns]
            start += columns
            yield ReplayStep(call.greedy_id, _error(digest, row, call))

    found = verification.verify_answers(bundle, backend, (answers(*replay) for replay in replays))
    return Answers(
        steps=sum(case.steps for case in found.cases),
        # JSON has no infinity; a row that is not finite differs by more than any number.
        largest_error=min(found.max_logit_error_std, float(np.finfo(np.float32).max)),
        tolerance=found.tolerance_std,
        near_ties=found.near_ties,
        differences=tuple(
            AnswerDifference(
                m.case, m.step or 0, m.position or 0, m.check, m.expected, m.found
            )
            for m in found.mismatches
        ),
        passed=found.passed,
    )  # fmt: skip


def _calls(
    case: GoldenCase, replay: Replay
) -> Iterator[tuple[LogitsDigest | None, bool, tuple[int, ...]]]:
    """Yield the digest of each call's row, whether the row is an answer, and the call's tokens."""
    calls = pieces_of(case, replay)
    first = len(calls) - len(case.continuation_ids)
    for index, tokens in enumerate(calls):
        is_answer = index >= first
        yield case.digest(index - first) if is_answer else None, is_answer, tokens


def _error(digest: LogitsDigest | None, row: NDArray[np.float32], call: Call) -> float:
    if digest is None:
        return 0.0
    if call.mean is None or call.std is None or not np.isfinite(row).all():
        return float("inf")
    return digest.error_of_columns(row, call.mean, call.std)
