"""Resident memory of this process: what an app is killed for, and what the kernel can drop.

Standard library only: every system's own interpreter imports it.
"""

import resource
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True)
class ResidentMemory:
    """Resident bytes of a process.

    Attributes:
        anonymous_bytes: heap, stacks and written copies of file pages.
        file_bytes: clean pages of mapped files, libraries included.
    """

    anonymous_bytes: int
    file_bytes: int

    @property
    def resident_bytes(self) -> int:
        return self.anonymous_bytes + self.file_bytes


def parse_smaps_rollup(text: str) -> ResidentMemory:
    """Read the text of /proc/PID/smaps_rollup (`man 5 proc`)."""
    fields = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            fields[name] = int(value.split()[0]) * _KIB
    return ResidentMemory(fields["Anonymous"], fields["Rss"] - fields["Anonymous"])


def resident_memory() -> ResidentMemory:
    """Return what is resident in this process now."""
    return parse_smaps_rollup(Path("/proc/self/smaps_rollup").read_text())


def peak_resident_bytes() -> int:
    """Return the highest resident size that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
