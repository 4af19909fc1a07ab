"""Counters of the kernel, and the rule for a run under pressure."""

import subprocess
from dataclasses import replace

import pytest

from pocketlm.device_tests.device.system_counters import (
    RunnerMemory,
    SystemCounters,
    counters_command,
    had_company,
    pressure_reason,
    read_counters,
)

RECORDED = """
@@ uptime
1234.56 7890.12

@@ vmstat
nr_free_pages 1000
pswpin 3
pswpout 9413
pgmajfault 77
oom_kill 1
workingset_refault_anon 5
workingset_refault_file 3117

@@ pressure
some avg10=0.00 avg60=0.00 avg300=0.00 total=2955515
full avg10=0.00 avg60=0.00 avg300=0.00 total=720000

@@ meminfo
MemTotal: 200000 kB
MemAvailable: 50000 kB

@@ waiting
some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000
full avg10=0.00 avg60=0.00 avg300=0.00 total=0

@@ page
4096
"""
QUIET = SystemCounters(
    swapped_out_bytes=0, refaulted_file_bytes=0, stalled_some_s=1.0, stalled_full_s=0.5
)
PEAK = 100 * 2**20
# A device that had less left than the runner held.
SHORT = RunnerMemory(PEAK, 0, 40 * 2**20)
ROOMY = RunnerMemory(PEAK, 0, 22 * 2**30)


def test_recorded_counters_are_read() -> None:
    assert read_counters(RECORDED) == SystemCounters(
        swapped_out_bytes=9413 * 4096,
        swapped_in_bytes=3 * 4096,
        refaulted_file_bytes=3117 * 4096,
        oom_kills=1,
        major_faults=77,
        stalled_some_s=2.955515,
        stalled_full_s=0.72,
        waited_cpu_s=1.5,
        available_bytes=50000 * 1024,
        uptime_s=1234.56,
    )


def test_older_kernels_count_refaults_together() -> None:
    text = RECORDED.replace("workingset_refault_file 3117", "workingset_refault 12")
    assert read_counters(text).refaulted_file_bytes == 12 * 4096


def test_what_is_hidden_is_not_known() -> None:
    assert read_counters("@@ vmstat\n\n@@ pressure\n") == SystemCounters()


def test_this_machine_says_all_it_can() -> None:
    done = subprocess.run(["sh", "-c", counters_command()], capture_output=True, text=True)
    found = read_counters(done.stdout)
    assert found.swapped_out_bytes is not None
    assert found.available_bytes
    assert found.uptime_s


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (QUIET, ""),
        (replace(QUIET, swapped_out_bytes=PEAK // 100), ""),
        (replace(QUIET, swapped_out_bytes=2 * 2**20), "2.0 MiB swapped out"),
        (replace(QUIET, refaulted_file_bytes=12 * 2**20), "12.0 MiB of files read again"),
        (replace(QUIET, stalled_some_s=9.0, stalled_full_s=0.59), ""),
        (replace(QUIET, stalled_full_s=1.22), "every process waited for memory for 0.72 s"),
    ],
)
def test_pressure_is_what_was_moved_or_stalled(after: SystemCounters, expected: str) -> None:
    assert pressure_reason(QUIET, after, SHORT) == expected


@pytest.mark.parametrize(
    ("stalled_s", "run_s", "expected"),
    [
        (0.09, 1.0, ""),
        (0.14, 1.0, "every process waited for memory for 0.14 s"),
        # Dropping files of earlier work, in three minutes.
        (0.14, 190.0, ""),
        (0.72, 190.0, "every process waited for memory for 0.72 s"),
        (0.14, None, "every process waited for memory for 0.14 s"),
    ],
)
def test_a_stall_counts_by_its_share_of_a_long_run(
    stalled_s: float, run_s: float | None, expected: str
) -> None:
    before = replace(QUIET, uptime_s=1000.0)
    after = replace(
        before,
        stalled_full_s=0.5 + stalled_s,
        uptime_s=None if run_s is None else 1000.0 + run_s,
    )
    assert pressure_reason(before, after, SHORT) == expected


def test_what_is_not_known_is_no_pressure() -> None:
    moved = replace(QUIET, swapped_out_bytes=2**40)
    assert pressure_reason(SystemCounters(), moved, SHORT) == ""
    assert pressure_reason(QUIET, moved, RunnerMemory()) == ""


BUSY = replace(
    QUIET, swapped_out_bytes=2**30, refaulted_file_bytes=2**30, stalled_full_s=9.0, uptime_s=10.0
)


def test_what_others_do_beside_free_memory_is_no_pressure() -> None:
    """A compiler reads files again that were dropped long ago: the count is of all processes."""
    assert pressure_reason(QUIET, BUSY, ROOMY) == ""
    assert pressure_reason(QUIET, BUSY, replace(ROOMY, least_available_bytes=PEAK)) == ""


@pytest.mark.parametrize("left", [0, 40 * 2**20, PEAK - 1])
def test_the_same_counts_are_pressure_where_memory_was_short(left: int) -> None:
    found = pressure_reason(QUIET, BUSY, replace(ROOMY, least_available_bytes=left))
    assert found.count("1024.0 MiB") == 2 and "waited for memory for 8.50 s" in found


@pytest.mark.parametrize(
    ("before", "after", "is_short"),
    [
        (2 * PEAK - 1, 9 * PEAK, True),  # less its peak, no more than another is left
        (9 * PEAK, 2 * PEAK - 1, True),
        (2 * PEAK, 2 * PEAK, False),
        (None, None, True),
        (None, 2 * PEAK, False),
    ],
)
def test_without_samples_the_room_before_and_after_counts(
    before: int | None, after: int | None, is_short: bool
) -> None:
    runner = RunnerMemory(PEAK)
    found = pressure_reason(
        replace(QUIET, available_bytes=before), replace(BUSY, available_bytes=after), runner
    )
    assert bool(found) == is_short


def test_the_runners_own_pages_in_swap_are_pressure_whatever_is_free() -> None:
    assert pressure_reason(QUIET, QUIET, replace(ROOMY, swapped_bytes=PEAK // 100)) == ""
    swapped = replace(ROOMY, swapped_bytes=3 * 2**20)
    assert pressure_reason(QUIET, QUIET, swapped) == "3.0 MiB of the runner in swap"


@pytest.mark.parametrize(
    ("group", "available"),
    [
        ("max\n1000\ninactive_file 10\n", 50000 * 1024),
        ("", 50000 * 1024),
        ("2000000\n1500000\ninactive_file 100000\n", 600_000),
        ("2000000\n1500000\n", 500_000),
        ("2000000\n2500000\n", 0),
        (f"{2**60}\n0\n", 50000 * 1024),
    ],
)
def test_a_control_group_may_leave_less(group: str, available: int) -> None:
    text = RECORDED.replace("@@ page", f"@@ group\n{group}\n@@ page")
    assert read_counters(text).available_bytes == available


@pytest.mark.parametrize(
    ("waited_s", "expected"), [(None, False), (0.0, False), (0.9, False), (1.1, True)]
)
def test_others_are_noticed_where_processes_wait_for_a_processor(
    waited_s: float | None, expected: bool
) -> None:
    before = SystemCounters(uptime_s=5.0, waited_cpu_s=3.0)
    waited = None if waited_s is None else 3.0 + waited_s
    assert had_company(before, SystemCounters(uptime_s=15.0, waited_cpu_s=waited)) == expected
