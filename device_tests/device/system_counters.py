"""What the kernel counts for the whole device, before and after a run, and what that says of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pocketlm.device_tests.device.shell import files_section, read_sections, section
from pocketlm.device_tests.device.shell_numbers import NUMBER, whole_number
from pocketlm.device_tests.device.system_files import read_kilobytes

# A run is a measurement of size only if next to nothing of it was pushed out meanwhile: 1 % of the
# runner's peak is below what the attribution can tell apart anyway.
MOVED_RATIO = 0.01
# Seconds in which no process of the device could go on because memory was short, and their share
# of a long run: dropping files of earlier work takes some, and harms nothing.
STALLED_S, STALLED_RATIO = 0.1, 0.002
# Processes wait for a processor a little even on an idle device.
_WAITED_RATIO = 0.1
# What limits the memory of this shell's control group, in bytes: the limit, what is held, and how
# much of that are pages of files that nobody used lately.
_GROUP = (
    "g=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); cat $g/memory.max $g/memory.current; "
    "grep '^inactive_file ' $g/memory.stat"
)


@dataclass(frozen=True)
class SystemCounters:
    """Counts since the device started; None where it does not say.

    Attributes:
        swapped_out_bytes, swapped_in_bytes: moved between memory and swap.
        refaulted_file_bytes: pages of files that were dropped and soon read again.
        oom_kills: processes that the kernel killed for memory.
        stalled_some_s, stalled_full_s: time in which some or all processes waited for memory.
        waited_cpu_s: time in which some process waited for a processor.
        available_bytes: MemAvailable, not a count; less where a control group leaves less.
        uptime_s: when they were read.
    """

    swapped_out_bytes: int | None = None
    swapped_in_bytes: int | None = None
    refaulted_file_bytes: int | None = None
    oom_kills: int | None = None
    major_faults: int | None = None
    stalled_some_s: float | None = None
    stalled_full_s: float | None = None
    waited_cpu_s: float | None = None
    available_bytes: int | None = None
    uptime_s: float | None = None


def counters_command() -> str:
    """Return shell text that prints what `read_counters` reads."""
    return "; ".join(
        (
            files_section("uptime", ("/proc/uptime",)),
            files_section("vmstat", ("/proc/vmstat",)),
            files_section("pressure", ("/proc/pressure/memory",)),
            files_section("waiting", ("/proc/pressure/cpu",)),
            files_section("meminfo", ("/proc/meminfo",)),
            section("group", _GROUP),
            section("page", "getconf PAGE_SIZE"),
        )
    )


def read_counters(output: str) -> SystemCounters:
    """Read the output of `counters_command`."""
    found = read_sections(output)
    counts = {
        name: int(count)
        for name, count in re.findall(rf"^(\w+) ({NUMBER})$", found.get("vmstat", ""), re.MULTILINE)
    }
    page_bytes = whole_number(found.get("page", "")) or 4096

    def in_bytes(name: str) -> int | None:
        pages = counts.get(name)
        return None if pages is None else pages * page_bytes

    refaulted = in_bytes("workingset_refault_file")
    if refaulted is None:  # before Linux 5.9
        refaulted = in_bytes("workingset_refault")
    uptime = re.match(rf"{NUMBER}(\.{NUMBER})?", found.get("uptime", ""))
    return SystemCounters(
        swapped_out_bytes=in_bytes("pswpout"),
        swapped_in_bytes=in_bytes("pswpin"),
        refaulted_file_bytes=refaulted,
        oom_kills=counts.get("oom_kill"),
        major_faults=counts.get("pgmajfault"),
        stalled_some_s=_stalled_s(found.get("pressure", ""), "some"),
        stalled_full_s=_stalled_s(found.get("pressure", ""), "full"),
        waited_cpu_s=_stalled_s(found.get("waiting", ""), "some"),
        available_bytes=_available_bytes(found),
        uptime_s=float(uptime[0]) if uptime else None,
    )


def increase(before: float | None, after: float | None) -> float:
    """Return how far a count rose; 0 where it is not known or started anew."""
    return max(0, after - before) if before is not None and after is not None else 0


@dataclass(frozen=True)
class RunnerMemory:
    """What was seen of the runner, and of the room beside it; None where nothing was.

    Attributes:
        peak_bytes: most that it had resident.
        swapped_bytes: most that it had in swap.
        least_available_bytes: least that the device had left while it ran.
    """

    peak_bytes: int | None = None
    swapped_bytes: int | None = None
    least_available_bytes: int | None = None


def pressure_reason(before: SystemCounters, after: SystemCounters, runner: RunnerMemory) -> str:
    """Return why sizes of a run cannot be trusted, empty where they can.

    Under pressure means: more than `MOVED_RATIO` of the runner's peak was in swap. Or the device
    was short of memory, with less left than the runner's peak, and meanwhile more than that share
    was swapped out, or read again after it was dropped, or every process waited for memory for more
    than `STALLED_S` in all, and more than `STALLED_RATIO` of the run. Those counts are of the whole
    device: a compiler that reads many files raises them as well, and takes nothing from the runner
    while there is room.
    """
    reasons = []
    peak_bytes, swapped_bytes = runner.peak_bytes, runner.swapped_bytes or 0
    if peak_bytes and swapped_bytes > MOVED_RATIO * peak_bytes:
        reasons.append(f"{swapped_bytes / 2**20:.1f} MiB of the runner in swap")
    if not _was_short(before, after, runner):
        return ", ".join(reasons)
    moved = (
        ("swapped out", increase(before.swapped_out_bytes, after.swapped_out_bytes)),
        ("of files read again", increase(before.refaulted_file_bytes, after.refaulted_file_bytes)),
    )
    for what, count in moved:
        if peak_bytes and count > MOVED_RATIO * peak_bytes:
            reasons.append(f"{count / 2**20:.1f} MiB {what}")
    stalled_s = increase(before.stalled_full_s, after.stalled_full_s)
    run_s = increase(before.uptime_s, after.uptime_s)
    if stalled_s > max(STALLED_S, STALLED_RATIO * run_s):
        reasons.append(f"every process waited for memory for {stalled_s:.2f} s")
    return ", ".join(reasons)


def had_company(before: SystemCounters, after: SystemCounters) -> bool:
    """Return whether processes waited for a processor: others than the runner were at work."""
    waited_s = increase(before.waited_cpu_s, after.waited_cpu_s)
    return waited_s > _WAITED_RATIO * max(increase(before.uptime_s, after.uptime_s), 1.0)


def _was_short(before: SystemCounters, after: SystemCounters, runner: RunnerMemory) -> bool:
    """Return whether less was left than the runner's peak; where nothing says, it may have been."""
    if not runner.peak_bytes:
        return True
    left = [] if runner.least_available_bytes is None else [runner.least_available_bytes]
    # Before and after, the runner did not hold its peak.
    seen = (before.available_bytes, after.available_bytes)
    left += [size - runner.peak_bytes for size in seen if size is not None]
    return min(left, default=0) < runner.peak_bytes


def _available_bytes(found: Mapping[str, str]) -> int | None:
    machine = read_kilobytes(found.get("meminfo", "")).get("MemAvailable")
    group = re.match(
        rf"({NUMBER})\n({NUMBER})(?:\ninactive_file ({NUMBER}))?", found.get("group", "")
    )
    if group is None:  # no control group, or one without a limit ("max")
        return machine
    limit, held, inactive = (int(word or 0) for word in group.groups())
    return min(max(0, limit - held + inactive), limit if machine is None else machine)


def _stalled_s(text: str, which: str) -> float | None:
    found = re.search(rf"^{which} .*total=({NUMBER})", text, re.MULTILINE)
    return int(found[1]) / 1e6 if found else None
