"""What the kernel counts for the whole device, before and after a run, and what that says of it."""

import re
from dataclasses import dataclass

from device_tests.device_files import read_kilobytes
from device_tests.remote_shell import files_section, read_sections, section

# A run is a measurement of size only if next to nothing of it was pushed out meanwhile: 1 % of the
# runner's peak is below what the attribution can tell apart anyway.
MOVED_RATIO = 0.01
# Seconds in which no process of the device could go on for want of memory, and their share of a
# long run: dropping files of earlier work takes some, and harms nothing.
STALLED_S, STALLED_RATIO = 0.1, 0.002


@dataclass(frozen=True)
class SystemCounters:
    """Counts since the device started; None where it does not say.

    Attributes:
        swapped_out_bytes, swapped_in_bytes: moved between memory and swap.
        refaulted_file_bytes: pages of files that were dropped and soon read again.
        oom_kills: processes that the kernel killed for memory.
        stalled_some_s, stalled_full_s: time in which some or all processes waited for memory.
        available_bytes: MemAvailable, not a count.
        uptime_s: when they were read.
    """

    swapped_out_bytes: int | None = None
    swapped_in_bytes: int | None = None
    refaulted_file_bytes: int | None = None
    oom_kills: int | None = None
    major_faults: int | None = None
    stalled_some_s: float | None = None
    stalled_full_s: float | None = None
    available_bytes: int | None = None
    uptime_s: float | None = None


def counters_command() -> str:
    """Return shell text that prints what `read_counters` reads."""
    return "; ".join(
        (
            files_section("uptime", ("/proc/uptime",)),
            files_section("vmstat", ("/proc/vmstat",)),
            files_section("pressure", ("/proc/pressure/memory",)),
            files_section("meminfo", ("/proc/meminfo",)),
            section("page", "getconf PAGE_SIZE"),
        )
    )


def read_counters(output: str) -> SystemCounters:
    """Read the output of `counters_command`."""
    found = read_sections(output)
    counts = {
        name: int(count)
        for name, count in re.findall(r"^(\w+) (\d+)$", found.get("vmstat", ""), re.MULTILINE)
    }
    page = found.get("page", "")
    page_bytes = int(page) if page.isdigit() else 4096

    def in_bytes(name: str) -> int | None:
        pages = counts.get(name)
        return None if pages is None else pages * page_bytes

    refaulted = in_bytes("workingset_refault_file")
    if refaulted is None:  # before Linux 5.9
        refaulted = in_bytes("workingset_refault")
    uptime = re.match(r"\d+\.?\d*", found.get("uptime", ""))
    return SystemCounters(
        swapped_out_bytes=in_bytes("pswpout"),
        swapped_in_bytes=in_bytes("pswpin"),
        refaulted_file_bytes=refaulted,
        oom_kills=counts.get("oom_kill"),
        major_faults=counts.get("pgmajfault"),
        stalled_some_s=_stalled_s(found.get("pressure", ""), "some"),
        stalled_full_s=_stalled_s(found.get("pressure", ""), "full"),
        available_bytes=read_kilobytes(found.get("meminfo", "")).get("MemAvailable"),
        uptime_s=float(uptime[0]) if uptime else None,
    )


def increase(before: float | None, after: float | None) -> float:
    """Return how far a count rose; 0 where it is not known or started anew."""
    return max(0, after - before) if before is not None and after is not None else 0


def pressure_reason(before: SystemCounters, after: SystemCounters, peak_bytes: int | None) -> str:
    """Return why sizes of a run cannot be trusted, empty where they can.

    Under pressure means: more than `MOVED_RATIO` of the runner's peak was swapped out, or more than
    that of files read again after they were dropped, or every process waited for memory for more
    than `STALLED_S` in all, and more than `STALLED_RATIO` of the run.

    Args:
        peak_bytes: most that the runner had resident; None leaves the first two out.
    """
    reasons = []
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


def _stalled_s(text: str, which: str) -> float | None:
    found = re.search(rf"^{which} .*total=(\d+)", text, re.MULTILINE)
    return int(found[1]) / 1e6 if found else None
