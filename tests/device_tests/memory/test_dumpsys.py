"""The layouts that `dumpsys meminfo -d PID` has had."""

import pytest

from pocketlm.device_tests.device.targets import open_target
from pocketlm.device_tests.memory.dumpsys import (
    ProcessMemory,
    ask_process_memory,
    read_process_memory,
)

NEW = """Applications Memory Usage (in Kilobytes):
Uptime: 9876543 Realtime: 12345678

** MEMINFO in pid 4321 [runner] **
                   Pss  Private  Private  SwapPss      Rss     Heap     Heap     Heap
                 Total    Dirty    Clean    Dirty    Total     Size    Alloc     Free
                ------   ------   ------   ------   ------   ------   ------   ------
  Native Heap    37500    37400       12      100    38000    45000    37000     8000
        Stack       84       84        0        0       88
     .so mmap     2512      180     1700        3     6100
   Other mmap    36864        0    36864        0    36900
   EGL mtrack     4096     4096        0        0     4096
    GL mtrack     8192     8192        0        0     8192
      Unknown      300      290        0        0      310
        TOTAL    89548    50242    38576      103    93686    45000    37000     8000

 Dalvik Details
        .Heap      120      120        0        0      120

 App Summary
                       Pss(KB)                        Rss(KB)
                        ------                         ------
           Java Heap:        0                              0
         Native Heap:    37400                          38000
                Code:     1880                           6100
               Stack:       84                             88
            Graphics:    12288                          12288
       Private Other:    37154
              System:      742
             Unknown:                                   37210

           TOTAL PSS:    89548            TOTAL RSS:    93686       TOTAL SWAP PSS:      103

 Objects
               Views:        0         ViewRootImpl:        0
"""
# Before Android 11: no Rss.
NO_RSS = """** MEMINFO in pid 4321 [runner] **
                   Pss  Private  Private  SwapPss     Heap     Heap     Heap
                 Total    Dirty    Clean    Dirty     Size    Alloc     Free
                ------   ------   ------   ------   ------   ------   ------
  Native Heap    37500    37400       12      100    45000    37000     8000
   Other mmap    36864        0    36864        0
        TOTAL    74364    37400    36876      100    45000    37000     8000

 App Summary
                       Pss(KB)
                        ------
           Java Heap:        0
         Native Heap:    37400
            Graphics:        0

               TOTAL:    74364       TOTAL SWAP PSS:      100
"""
# Kernels without SwapPss.
SWAP_KB = NO_RSS.replace("SwapPss", "Swapped").replace(
    "TOTAL SWAP PSS:      100", "TOTAL SWAP (KB):       96"
)
NO_SUMMARY = NO_RSS.partition(" App Summary")[0]
KB = 1024


def read(text: str) -> ProcessMemory:
    found = read_process_memory(text)
    assert found is not None
    return found


@pytest.mark.parametrize("text", [NEW, NO_RSS, SWAP_KB, NO_SUMMARY])
def test_rows_are_read_by_the_names_of_their_columns(text: str) -> None:
    rows = read(text).rows
    assert rows["Native Heap"]["Pss Total"] == 37500 * KB
    assert rows["Native Heap"]["Private Clean"] == 12 * KB
    assert rows["Native Heap"]["Heap Alloc"] == 37000 * KB
    assert rows["Other mmap"]["Private Clean"] == 36864 * KB
    assert "Heap Size" not in rows["Other mmap"]
    assert ".Heap" not in rows


def test_columns_of_new_and_old() -> None:
    assert read(NEW).rows["Native Heap"]["Rss Total"] == 38000 * KB
    assert read(NEW).rows[".so mmap"]["Private Clean"] == 1700 * KB
    assert "Rss Total" not in read(NO_RSS).rows["Native Heap"]
    assert read(SWAP_KB).rows["Native Heap"]["Swapped Dirty"] == 100 * KB


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NEW, {"Pss": 89548 * KB, "Rss": 93686 * KB, "SwapPss": 103 * KB}),
        (NO_RSS, {"Pss": 74364 * KB, "SwapPss": 100 * KB}),
        (SWAP_KB, {"Pss": 74364 * KB, "Swap": 96 * KB}),
        (NO_SUMMARY, {"Pss": 74364 * KB}),
    ],
)
def test_totals_keep_their_kinds_apart(text: str, expected: dict[str, int]) -> None:
    assert read(text).totals == expected


def test_summary_has_no_figure_of_the_other_column() -> None:
    summary = read(NEW).summary
    assert summary["Graphics"] == 12288 * KB
    assert summary["Private Other"] == 37154 * KB
    assert "Unknown" not in summary
    assert "Views" not in summary


def test_memory_of_the_gpu_is_added_up() -> None:
    assert read(NEW).gpu_bytes == (4096 + 8192) * KB
    assert read(NO_RSS).gpu_bytes == 0


@pytest.mark.parametrize(
    "text", ["No process found for: 4321\n", "", "Can't find service: meminfo"]
)
def test_no_process_is_none(text: str) -> None:
    assert read_process_memory(text) is None


def test_devices_without_dumpsys_do_not_say() -> None:
    assert ask_process_memory(open_target("host"), 1) is None
