"""Advice to the kernel: what is read back is what was there."""

import mmap
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pocketlm.runtime_py import memory_advice
from pocketlm.runtime_py.memory_advice import huge_page_heap, ranges_of, release_file_pages
from pocketlm.runtime_py.process_tuning import process_tuning

MAPS = """\
7f00-9f00 r--p 00000000 08:01 42                         /a/model with spaces.pte
a000-c000 rw-p 00000000 00:00 0
c000-d000 r--p 00002000 08:01 42                         /a/model with spaces.pte
d000-e000 r--p 00000000 08:01 43                         /b/a/model with spaces.pte
e000-f000 r--p 00000000 08:01 44                         /a/model with spaces.pte.data
"""


def test_mappings_of_a_file_are_found_by_its_whole_path() -> None:
    assert ranges_of(Path("/a/model with spaces.pte"), MAPS) == [(0x7F00, 0x2000), (0xC000, 0x1000)]
    assert ranges_of(Path("/a/other.pte"), MAPS) == []


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these calls")


@linux
def test_released_pages_come_back_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    content = bytes(range(256)) * (1 << 14)
    file.write_bytes(content)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert sum(data[255::4096]) > 0  # touches every page
        assert _resident_bytes(file) == len(content)
        release_file_pages(file)
        assert _resident_bytes(file) == 0
        assert data[:] == content


@linux
def test_what_is_allocated_within_the_block_asks_for_huge_pages() -> None:
    # In a process of its own: this one's allocator must stay as other tests found it.
    code = """
import ctypes
from pocketlm.runtime_py.memory_advice import huge_page_heap
from pocketlm.runtime_py.process_tuning import process_tuning

libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)

def flags(address):
    inside = False
    for line in open("/proc/self/smaps"):
        first, *rest = line.split()
        if first == "VmFlags:" and inside:
            return rest
        if not first.endswith(":"):
            start, end = (int(number, 16) for number in first.split("-"))
            inside = start <= address < end

with process_tuning(), huge_page_heap(64 << 20):
    within = libc.malloc(16 << 20)
    ctypes.memset(within, 7, 16 << 20)
after = libc.malloc(40 << 20)
assert ctypes.string_at(within, 16 << 20) == bytes([7]) * (16 << 20)
print("hg" in flags(within + (8 << 20)), "hg" in flags(after + (8 << 20)))
libc.free(within)
libc.free(after)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_without_glibc_the_block_just_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_advice, "_libc", lambda: None)
    with process_tuning(), huge_page_heap(1 << 30):
        assert bytes(10) == b"\0" * 10


def _resident_bytes(file: Path) -> int:
    return sum(m.rss for m in psutil.Process().memory_maps() if m.path == str(file))
