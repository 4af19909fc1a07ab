"""What this process holds in memory, and what the machine could still give."""

import ctypes
import gc
import threading
from pathlib import Path
from typing import Self

import psutil

_SAMPLE_S = 0.02
_CGROUPS = Path("/sys/fs/cgroup")


def resident_bytes() -> int:
    """Return what this process holds now: its own memory and touched pages of mapped files."""
    size: int = psutil.Process().memory_info().rss
    return size


def peak_resident_bytes() -> int:
    """Return the most that this process ever held."""
    # Not ru_maxrss: on Linux a program inherits the peak of the process that started it.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def available_bytes(cgroups: Path = _CGROUPS) -> int:
    """Return what could be allocated without swapping: on this machine and in this container."""
    available: int = psutil.virtual_memory().available
    own = _own_cgroup()
    folders = [cgroups / own, *(cgroups / own).parents] if own is not None else []
    for folder in folders:
        if folder.is_relative_to(cgroups):
            available = min(available, _cgroup_headroom(folder, available))
    return available


def return_freed_memory() -> None:
    """Give memory that Python and the C library have freed but kept back to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


class PeakMemory:
    """Measures the most that this process holds between entry and exit.

    Exact where that is the highest of the process so far; otherwise the highest of samples, since
    the system keeps one mark that cannot be set back without misleading those who watch it from
    outside.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._before = peak_resident_bytes()
        self._highest = resident_bytes()
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="peak memory", daemon=True)
        self._sampler.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._ended.set()
        self._sampler.join()
        mark = peak_resident_bytes()
        self.peak_bytes = mark if mark > self._before else max(self._highest, resident_bytes())

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self._highest = max(self._highest, resident_bytes())


def _own_cgroup() -> str | None:
    """Return this process's group below the mount of cgroups, version 2; None without one."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    # One line "0::/path" is version 2.
    return next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), None)


def _cgroup_headroom(folder: Path, otherwise: int) -> int:
    """Return what a group's limit leaves; pages of files do not count, they make room."""
    try:
        limit = int((folder / "memory.max").read_text())  # "max" is no limit
        held = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        stat = {key: int(value) for key, value in (line.split() for line in lines)}
    except (OSError, ValueError):
        return otherwise
    held -= stat.get("inactive_file", 0) + stat.get("active_file", 0)
    return max(0, limit - held)
