"""The script that replays golden answers, and the verdict on what comes back.

The host's own engine stands for the device: it follows the script as the runner does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.memory.events import Call
from pocketlm.device_tests.profiling import golden_answers
from pocketlm.device_tests.profiling.document import Answers
from pocketlm.runtime_py.bundle import Bundle, open_bundle
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.golden_cases import GoldenCase
from pocketlm.runtime_py.replay import replays_of
from pocketlm.runtime_py.session import Session, open_session
from pocketlm.runtime_py.verification import read_golden
from pocketlm.runtime_py.verification_result import Replay


@dataclass(frozen=True)
class Replayed:
    """What the host's engine answered to a script."""

    bundle: Bundle
    backend: str
    script: tuple[str, ...]
    calls: tuple[Call, ...]
    logits: NDArray[np.float32]

    @property
    def golden(self) -> Golden:
        return read_golden(self.bundle, self.backend)


@pytest.fixture(scope="module", params=["executorch", "onnx"])
def replayed(request: pytest.FixtureRequest, pico_bundle: Path) -> Replayed:
    bundle = open_bundle(pico_bundle)
    script = golden_answers.script(bundle, request.param)
    with open_session(bundle, request.param, threads=1) as session:
        calls, logits = follow(session, script, bundle.manifest.vocab_size)
    return Replayed(bundle, request.param, script, calls, logits)


def follow(
    session: Session, script: Sequence[str], vocab_size: int
) -> tuple[tuple[Call, ...], NDArray[np.float32]]:
    """Do what the runner does with a script."""
    calls, kept = [], []
    choices, position, columns = vocab_size, 0, list(range(vocab_size))
    for line in script:
        command, *words = line.split()
        numbers = [int(word) for word in words]
        if command == "choices":
            (choices,) = numbers
        elif command == "columns":
            columns = numbers or list(range(vocab_size))
        elif command == "reset":
            session.reset()
            position = 0
        else:
            assert command in ("feed", "feed+")
            row = session.prefill(numbers)
            position += len(numbers)
            is_kept = command == "feed+"
            mean, std = (float(f(row, dtype=np.float64)) for f in (np.mean, np.std))
            calls.append(
                Call(
                    clock_s=0.0,
                    wall_s=0.0,
                    tokens=len(numbers),
                    position=position,
                    greedy_id=int(np.argmax(row[:choices])),
                    is_kept=is_kept,
                    mean=mean if is_kept else None,
                    std=std if is_kept else None,
                )
            )
            if is_kept:
                kept.append(row[columns])
    return tuple(calls), np.concatenate(kept)


def kept_calls(replayed: Replayed) -> list[int]:
    return [index for index, call in enumerate(replayed.calls) if call.is_kept]


def step_with_digest(golden: Golden) -> tuple[int, GoldenCase, Replay, int, int]:
    """Return an answer's number, its case, replay and step, and its first column's place."""
    number = place = 0
    for case, replay in replays_of(golden):
        for step in range(len(case.continuation_ids)):
            digest = case.digest(step)
            if digest is not None and step > 0:
                return number, case, replay, step, place
            number += 1
            place += len(digest.ids) if digest else 1
    raise AssertionError("no such step")


def judged(replayed: Replayed, calls: Sequence[Call], logits: NDArray[np.float32]) -> Answers:
    return golden_answers.compare_answers(replayed.bundle, replayed.backend, calls, logits)


def test_answers_of_the_host_pass(replayed: Replayed) -> None:
    found = judged(replayed, replayed.calls, replayed.logits)
    assert found.passed and found.differences == ()
    assert found.steps == sum(len(case.continuation_ids) for case, _ in replays_of(replayed.golden))
    assert 0 < found.largest_error <= found.tolerance == replayed.golden.tolerance


def test_script_leaves_the_runner_as_it_was(replayed: Replayed) -> None:
    vocab_size = replayed.bundle.manifest.vocab_size
    assert replayed.script[-3:] == ("reset", "columns", f"choices {vocab_size}")
    assert replayed.script[0].startswith("choices ")


def test_script_keeps_columns_of_a_digest_and_one_of_other_rows(replayed: Replayed) -> None:
    widths = [len(line.split()) - 1 for line in replayed.script if line.startswith("columns ")]
    assert sum(widths) == len(replayed.logits)
    assert len(widths) == len(kept_calls(replayed))
    expected = [
        len(digest.ids) if (digest := case.digest(step)) else 1
        for case, _ in replays_of(replayed.golden)
        for step in range(len(case.continuation_ids))
    ]
    assert widths == expected


def test_each_replay_begins_with_a_reset(replayed: Replayed) -> None:
    assert replayed.script.count("reset") == len(replays_of(replayed.golden)) + 1


def test_calls_that_keep_nothing_are_passed_over(replayed: Replayed) -> None:
    measured = Call(0.0, 0.1, 1, 5, 3, False, None, None)
    assert judged(replayed, (measured, measured, *replayed.calls), replayed.logits).passed


def test_a_logit_that_moved_too_far_is_named(replayed: Replayed) -> None:
    golden = replayed.golden
    _, case, replay, step, place = step_with_digest(golden)
    digest = case.digest(step)
    assert digest is not None
    moved = replayed.logits.copy()
    moved[place + 3] += 2 * golden.tolerance * digest.std
    found = judged(replayed, replayed.calls, moved)
    (difference,) = found.differences
    assert not found.passed
    assert (difference.case, difference.step, difference.what) == (
        f"{case.name} ({replay})",
        step,
        "logits",
    )
    assert difference.position == len(case.prompt_ids) - 1 + step
    assert golden.tolerance < found.largest_error < 4 * golden.tolerance


def test_a_mean_that_moved_too_far_is_found(replayed: Replayed) -> None:
    number, case, _, step, _ = step_with_digest(replayed.golden)
    digest = case.digest(step)
    assert digest is not None
    index = kept_calls(replayed)[number]
    call = replayed.calls[index]
    assert call.mean is not None
    moved = replace(call, mean=call.mean + 2 * replayed.golden.tolerance * digest.std)
    calls = (*replayed.calls[:index], moved, *replayed.calls[index + 1 :])
    (difference,) = judged(replayed, calls, replayed.logits).differences
    assert (difference.step, difference.what) == (step, "logits")


def test_another_greedy_choice_is_named_unless_it_was_a_near_tie(replayed: Replayed) -> None:
    golden = replayed.golden
    steps = [
        (margin, case, step)
        for case, _ in replays_of(golden)
        for step, margin in enumerate(case.margins)
    ]
    clear = next(i for i, (margin, *_) in enumerate(steps) if margin > 2 * golden.tolerance)
    before = judged(replayed, replayed.calls, replayed.logits)
    index = kept_calls(replayed)[clear]
    _, case, step = steps[clear]
    other = (case.continuation_ids[step] + 1) % 100
    changed = replace(replayed.calls[index], greedy_id=other)
    calls = (*replayed.calls[:index], changed, *replayed.calls[index + 1 :])
    found = judged(replayed, calls, replayed.logits)
    (difference,) = found.differences
    assert (difference.what, difference.step) == ("greedy id", step)
    assert difference.expected.startswith(f"{case.continuation_ids[step]} ")
    assert difference.found.startswith(f"{other} ")
    assert found.largest_error == before.largest_error

    ties = [
        (number, tied[0])
        for number, (_, case, step) in enumerate(steps)
        if (tied := case.tied_ids[step])
    ]
    for number, token in ties[:1]:
        index = kept_calls(replayed)[number]
        changed = replace(replayed.calls[index], greedy_id=token)
        calls = (*replayed.calls[:index], changed, *replayed.calls[index + 1 :])
        found = judged(replayed, calls, replayed.logits)
        assert found.passed and found.near_ties >= 1


@pytest.mark.parametrize("calls_lost", [0, 1])
def test_a_run_that_ended_early_is_no_verdict(replayed: Replayed, calls_lost: int) -> None:
    calls = replayed.calls[: len(replayed.calls) - calls_lost]
    logits = replayed.logits if calls_lost else replayed.logits[:-1]
    with pytest.raises(DeviceError, match="ended before its answers did; run it again"):
        judged(replayed, calls, logits)
    with pytest.raises(DeviceError, match="ended before its answers did"):
        judged(replayed, (), np.zeros(0, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_kept_column_that_is_not_finite_fails(replayed: Replayed, value: float) -> None:
    *_, step, place = step_with_digest(replayed.golden)
    broken = replayed.logits.copy()
    broken[place] = value
    check_infinite(judged(replayed, replayed.calls, broken), step)


@pytest.mark.parametrize("lost", [{"mean": None, "std": None}, {"mean": None}, {"std": None}])
def test_a_row_that_is_not_finite_elsewhere_fails(
    replayed: Replayed, lost: dict[str, None]
) -> None:
    number, _, _, step, _ = step_with_digest(replayed.golden)
    index = kept_calls(replayed)[number]
    # The runner leaves the spread of such a row out.
    broken = replace(replayed.calls[index], **lost)  # type: ignore[arg-type]
    calls = (*replayed.calls[:index], broken, *replayed.calls[index + 1 :])
    check_infinite(judged(replayed, calls, replayed.logits), step)


def check_infinite(found: Answers, step: int) -> None:
    (difference,) = found.differences
    assert (difference.step, difference.what, difference.found) == (step, "logits", "inf std")
    # As large as JSON can say.
    assert found.largest_error == float(np.finfo(np.float32).max)
