"""What the kernel and the allocator should do with a loaded model's memory.

Only advice: nothing depends on it. Linux alone has these calls, and glibc alone the allocator's;
elsewhere they do nothing.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketlm.runtime_py.process_tuning import may_tune_process

_MADV_DONTNEED = 4
_MADV_HUGEPAGE = 14
# mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = -1
# The most that these two become when glibc adapts them itself, which it stops once they are set.
_ADAPTED_MMAP_BYTES = 32 << 20
_ADAPTED_TRIM_BYTES = 64 << 20
_HUGE_PAGE_BYTES = 2 << 20
_PIECE_BYTES = 512 << 20


def release_file_pages(file: Path) -> None:
    """Give back resident pages of a mapped file that nothing has changed.

    A page that is read again comes back from the file. ExecuTorch locks the constants of a program
    in memory: the whole embedding table, of which a text touches a few rows.
    """
    libc = _libc()
    if libc is None:
        return
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return
    for start, size_bytes in ranges_of(file, maps):
        libc.munlock(start, size_bytes)
        libc.madvise(start, size_bytes, _MADV_DONTNEED)


def ranges_of(file: Path, maps: str) -> list[tuple[int, int]]:
    """Return start and bytes of each mapping of a file, from the text of /proc/PID/maps."""
    path, found = str(file.resolve()), []
    for line in maps.splitlines():
        # Of some thousand mappings few have a path that ends so.
        if line.endswith(path) and line.split(maxsplit=5)[5:] == [path]:
            start, end = (int(number, 16) for number in line.partition(" ")[0].split("-"))
            found.append((start, end - start))
    return found


@contextmanager
def huge_page_heap(size_bytes: int) -> Iterator[None]:
    """Have what is allocated within the block, such as packed weights, lie in huge pages.

    A token reads all weights once: with pages of 4 KiB the processor looks up an address every
    other microsecond. The kernel gives huge pages where it was asked before a page is touched. So
    the heap grows by what will be needed, asks for them and is handed back untouched; what is
    allocated next comes from there, instead of from mappings of its own. glibc has no way back to
    thresholds that it adapts itself: only in a process that is ours to tune.

    Args:
        size_bytes: what will be allocated, about; what goes beyond lies in small pages.
    """
    libc = _libc() if may_tune_process() else None
    if libc is None or not _keep_one_heap(libc):
        yield
        return
    try:
        _advise_heap(libc, size_bytes)
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _ADAPTED_MMAP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _ADAPTED_TRIM_BYTES)
        libc.malloc_trim(0)


def _keep_one_heap(libc: ctypes.CDLL) -> bool:
    if not hasattr(libc, "mallopt"):
        return False
    # Some versions refuse a threshold so high.
    larger = libc.mallopt(_M_MMAP_THRESHOLD, 2 * _PIECE_BYTES)
    return bool(larger and libc.mallopt(_M_TRIM_THRESHOLD, _NEVER))


def _advise_heap(libc: ctypes.CDLL, size_bytes: int) -> None:
    pieces = []
    for _ in range(-(-size_bytes // _PIECE_BYTES)):
        piece = libc.malloc(_PIECE_BYTES)
        if not piece:
            break
        pieces.append(piece)
        start = -(-piece // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
        libc.madvise(start, piece + _PIECE_BYTES - start, _MADV_HUGEPAGE)
    for piece in pieces:
        libc.free(piece)


def _libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.munlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    libc.free.argtypes = (ctypes.c_void_p,)
    return libc
