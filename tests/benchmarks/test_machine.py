"""Reading the processors' time, and telling a busy machine from an idle one."""

import fcntl
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.machine import ProcessorTime, Quietness, parse_stat, quietness
from benchmarks.processes import Guard, SuiteError

STAT = """\
cpu  1000 200 300 9000 50 7 13 40 5 5
cpu0 500 100 150 4500 25 3 7 20 5 5
"""


def test_stat_counts_work_and_leaves_out_waiting_and_guests() -> None:
    assert parse_stat(STAT, ticks_per_s=100) == ProcessorTime(15.2, 0.4)


def test_only_other_processes_are_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    before, after = ProcessorTime(100, 1), ProcessorTime(117, 2)
    assert quietness(before, after, own_s=15, wall_s=10) == Quietness(0.1, 0.05)


def test_more_own_time_than_the_machine_counted_is_no_foreign_work() -> None:
    # Clock ticks are rounded.
    found = quietness(ProcessorTime(0, 0), ProcessorTime(1, 0), own_s=1.004, wall_s=1)
    assert found.foreign_share == 0


def test_stolen_time_makes_a_machine_busy() -> None:
    assert Quietness(0, machine.BUSY_SHARE + 0.01).is_busy
    assert not Quietness(machine.BUSY_SHARE, machine.BUSY_SHARE).is_busy


def test_busy_machine_is_refused_and_the_culprit_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "sample_quietness", lambda: Quietness(0.5, 0.01))
    monkeypatch.setattr(machine, "busiest_processes", lambda: ["cc1plus 99 %"])
    message = r"machine is busy: other work takes 50% .* host 1% .*cc1plus 99 %.*--force"
    with pytest.raises(SuiteError, match=message), Guard(idle_timeout_s=-1).alone():
        raise AssertionError("measured on a busy machine")


def test_force_measures_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "sample_quietness", lambda: Quietness(0.5, 0))
    reached = False
    with Guard(force=True).alone():
        reached = True
    assert reached


def test_lock_file_is_held_while_measuring(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    guard = Guard(force=True, lock_file=path)
    with guard.alone(), path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_description_names_no_machine() -> None:
    assert set(machine.describe()) == {
        "architecture", "physical_cores", "logical_cores", "memory_bytes", "cpu_flags",
    }  # fmt: skip
