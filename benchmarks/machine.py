"""What the machine is, and whether it is idle enough to be timed. Names no machine."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# Processor features that decide which integer kernels a runtime picks.
_TELLING_FLAGS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve",
)  # fmt: skip

# Of the machine's processor time: daemons of a quiet desktop stay below it.
BUSY_SHARE = 0.05
_SAMPLE_S = 1.0


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds since boot that the processors spent, over all cores.

    Attributes:
        stolen_s: a virtual machine was ready to run and its host ran another.
    """

    busy_s: float
    stolen_s: float


@dataclass(frozen=True)
class Quietness:
    """What else the machine did during a measurement, as shares of its processor time."""

    foreign_share: float
    stolen_share: float

    @property
    def is_busy(self) -> bool:
        return max(self.foreign_share, self.stolen_share) > BUSY_SHARE


def physical_cores() -> int:
    """Return the cores that decode runs on: hyperthreads share what it waits for."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def describe() -> dict[str, object]:
    """Return what results depend on: cores, memory, instruction sets."""
    flags = _cpu_flags(Path("/proc/cpuinfo").read_text())
    return {
        "architecture": platform.machine(),
        "physical_cores": physical_cores(),
        "logical_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "cpu_flags": [flag for flag in _TELLING_FLAGS if flag in flags],
    }


def parse_stat(text: str, ticks_per_s: int) -> ProcessorTime:
    """Read the first line of /proc/stat (`man 5 proc`)."""
    line = next(line for line in text.splitlines() if line.startswith("cpu "))
    user, nice, system, _, _, irq, softirq, steal = (int(n) for n in line.split()[1:9])
    busy = user + nice + system + irq + softirq
    return ProcessorTime(busy / ticks_per_s, steal / ticks_per_s)


def processor_time() -> ProcessorTime:
    """Return the processors' time now."""
    return parse_stat(Path("/proc/stat").read_text(), os.sysconf("SC_CLK_TCK"))


def quietness(
    before: ProcessorTime, after: ProcessorTime, own_s: float, wall_s: float
) -> Quietness:
    """Say what else the machine did.

    Args:
        own_s: processor seconds of the measured process and its children.
    """
    capacity_s = wall_s * (os.cpu_count() or 1)
    foreign = max(0.0, after.busy_s - before.busy_s - own_s)
    return Quietness(foreign / capacity_s, (after.stolen_s - before.stolen_s) / capacity_s)


def sample_quietness() -> Quietness:
    """Watch the machine for a second while this process sleeps."""
    before, own, start = processor_time(), time.process_time(), time.monotonic()
    time.sleep(_SAMPLE_S)
    own_s = time.process_time() - own
    return quietness(before, processor_time(), own_s, time.monotonic() - start)


def busiest_processes(count: int = 3) -> Sequence[str]:
    """Name the processes that use most processor time now, with their share of one core."""
    processes = [process for process in psutil.process_iter() if process.pid != os.getpid()]
    for process in processes:
        _share(process)
    time.sleep(_SAMPLE_S)
    shares = sorted(((_share(process), process) for process in processes), key=lambda p: -p[0])
    return [f"{_name(process)} {share:.0f} %" for share, process in shares[:count] if share > 1]


def _share(process: psutil.Process) -> float:
    try:
        return float(process.cpu_percent())
    except psutil.Error:
        return 0.0


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return "ended"


def _cpu_flags(cpuinfo: str) -> set[str]:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(value.split())
    return set()
