"""Advice to the kernel: what is read back is what was there."""

import mmap
import sys
from pathlib import Path

import pytest

from runtime_py.memory_advice import (
    Mapping,
    parse_smaps,
    release_file_pages,
    use_huge_pages,
)

SMAPS = """\
7f00-9f00 r--p 00000000 08:01 42                         /a/model with spaces.pte
Size:                  8 kB
Rss:                   4 kB
VmFlags: rd mr mw me lo
a000-c000 rw-p 00000000 00:00 0
Rss:                   8 kB
"""


def test_mappings_are_read_with_their_paths() -> None:
    assert list(parse_smaps(SMAPS)) == [
        Mapping(0x7F00, 0x2000, 4096, "/a/model with spaces.pte"),
        Mapping(0xA000, 0x2000, 8192, ""),
    ]


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
def test_memory_in_huge_pages_holds_what_it_held() -> None:
    with mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = bytes(range(256)) * (1 << 15)
        use_huge_pages()
        assert memory[:] == bytes(range(256)) * (1 << 15)


def _resident_bytes(file: Path) -> int:
    smaps = Path("/proc/self/smaps").read_text()
    return sum(m.resident_bytes for m in parse_smaps(smaps) if m.path == str(file))
