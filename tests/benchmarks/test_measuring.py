"""The one measurement that every system goes through: what it is fed, and in which order."""

import json
from collections.abc import Sequence

import pytest

from benchmarks.workers.measuring import WARM_UP_STEPS, Job, measure, token_ids

JOB = Job(
    artifact="none",
    threads=1,
    context_length=64,
    vocab_size=500,
    prefill_tokens=8,
    prefill_repeats=2,
    depths=(16, 40),
    decode_steps=4,
    settings={"key": "value"},
)


class Recorder:
    """Writes down what it is asked to do."""

    def __init__(self, filled_at: int | None = None) -> None:
        self.calls: list[tuple[str, int, int]] = []
        self._filled_at = filled_at

    def run(self, tokens: Sequence[int], position: int) -> int:
        self.calls.append(("run", len(tokens), position))
        return 0

    def fill(self, position: int) -> bool:
        return position == self._filled_at

    def keep(self, position: int) -> None:
        self.calls.append(("keep", 0, position))


def measured(system: Recorder, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    measure(JOB, lambda job: system)
    figures: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return figures


def steps_from(position: int) -> list[tuple[str, int, int]]:
    return [("run", 1, position + step) for step in range(WARM_UP_STEPS + JOB.decode_steps)]


def test_prompts_start_anew_and_decode_follows_each_depth(
    capsys: pytest.CaptureFixture[str],
) -> None:
    system = Recorder()
    figures = measured(system, capsys)
    after_first = 16 + WARM_UP_STEPS + JOB.decode_steps
    assert system.calls == [
        ("run", 8, 0),
        ("run", 8, 0),
        ("run", 8, 0),
        ("run", 8, 8),
        ("keep", 0, 16),
        *steps_from(16),
        ("run", 40 - after_first, after_first),
        ("keep", 0, 40),
        *steps_from(40),
    ]
    assert isinstance(figures["prefill_s"], list) and len(figures["prefill_s"]) == 2


def test_depth_that_a_system_can_fill_is_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    system = Recorder(filled_at=40)
    measured(system, capsys)
    assert ("keep", 0, 40) not in system.calls
    assert system.calls[-len(steps_from(40)) :] == steps_from(40)


def test_job_survives_the_command_line() -> None:
    assert Job.from_json(JOB.to_json()) == JOB


def test_ids_are_in_the_vocabulary_and_hardly_repeat() -> None:
    ids = token_ids(1000, 262_144)
    assert min(ids) >= 0 and max(ids) < 262_144
    assert len(set(ids)) == 1000
