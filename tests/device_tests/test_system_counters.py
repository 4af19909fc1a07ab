"""Counters of the kernel, and the rule for a run under pressure."""

import subprocess
from dataclasses import replace

import pytest

from device_tests.system_counters import (
    SystemCounters,
    counters_command,
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

@@ page
4096
"""
QUIET = SystemCounters(
    swapped_out_bytes=0, refaulted_file_bytes=0, stalled_some_s=1.0, stalled_full_s=0.5
)
PEAK = 100 * 2**20


def test_recorded_counters_are_read() -> None:
    assert read_counters(RECORDED) == SystemCounters(
        swapped_out_bytes=9413 * 4096,
        swapped_in_bytes=3 * 4096,
        refaulted_file_bytes=3117 * 4096,
        oom_kills=1,
        major_faults=77,
        stalled_some_s=2.955515,
        stalled_full_s=0.72,
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
    assert pressure_reason(QUIET, after, PEAK) == expected


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
    assert pressure_reason(before, after, PEAK) == expected


def test_what_is_not_known_is_no_pressure() -> None:
    moved = replace(QUIET, swapped_out_bytes=2**40)
    assert pressure_reason(SystemCounters(), moved, PEAK) == ""
    assert pressure_reason(QUIET, moved, None) == ""
