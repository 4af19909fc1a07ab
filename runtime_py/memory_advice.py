"""What the kernel should do with a loaded model's memory. Only advice: nothing depends on it.

Linux alone has these calls; elsewhere they do nothing.
"""

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MADV_DONTNEED = 4
_MADV_COLLAPSE = 25
# A huge page is 2 MiB; a smaller mapping may hold none that is aligned.
_LEAST_BYTES = 4 << 20
# Pages that were never touched stay that way: a huge page would make them resident.
_TOUCHED = 0.9


@dataclass(frozen=True)
class Mapping:
    """One range of this process's address space; `path` is empty for anonymous memory."""

    start: int
    size_bytes: int
    resident_bytes: int
    path: str


def release_file_pages(file: Path) -> None:
    """Give back resident pages of a mapped file that nothing has changed.

    A page that is read again comes back from the file. ExecuTorch locks the constants of a program
    in memory: the whole embedding table, of which a text touches a few rows.
    """
    libc = _libc()
    if libc is None:
        return
    for mapping in _mappings():
        if mapping.path == str(file.resolve()):
            libc.munlock(mapping.start, mapping.size_bytes)
            libc.madvise(mapping.start, mapping.size_bytes, _MADV_DONTNEED)


def use_huge_pages() -> None:
    """Gather large anonymous memory, such as packed weights, in huge pages.

    A token reads all weights once: with pages of 4 KiB the processor looks up an address every
    other microsecond.
    """
    libc = _libc()
    if libc is None:
        return
    for mapping in _mappings():
        touched = mapping.resident_bytes > _TOUCHED * mapping.size_bytes
        if not mapping.path and mapping.size_bytes >= _LEAST_BYTES and touched:
            libc.madvise(mapping.start, mapping.size_bytes, _MADV_COLLAPSE)


def _libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.munlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc


def _mappings() -> list[Mapping]:
    try:
        text = Path("/proc/self/smaps").read_text()
    except OSError:
        return []
    return list(parse_smaps(text))


def parse_smaps(text: str) -> Iterator[Mapping]:
    """Yield the mappings of /proc/PID/smaps."""
    start = end = 0
    path = ""
    for line in text.splitlines():
        name, *fields = line.split(maxsplit=5)
        if name.endswith(":"):
            if name == "Rss:":
                yield Mapping(start, end - start, int(fields[0]) << 10, path)
        else:
            start, end = (int(number, 16) for number in name.split("-"))
            path = fields[4] if len(fields) > 4 else ""
