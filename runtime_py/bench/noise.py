"""What else the machine did while something was timed."""

import os
from dataclasses import dataclass
from time import monotonic, process_time

import psutil

# Of the machine's processor time: what a quiet desktop does stays below it.
BUSY_SHARE = 0.05


@dataclass(frozen=True)
class _Spent:
    """Seconds until now: of all processors together, and on the clock."""

    busy_s: float
    own_s: float
    wall_s: float


class NoiseMeter:
    """Measures from when it is made until `foreign_share` is asked for."""

    def __init__(self) -> None:
        self._begun = _spent()

    def foreign_share(self) -> float:
        """Return the share of the machine's processor time that others took, 0 to 1."""
        now, begun = _spent(), self._begun
        capacity_s = (now.wall_s - begun.wall_s) * (os.cpu_count() or 1)
        foreign_s = (now.busy_s - begun.busy_s) - (now.own_s - begun.own_s)
        return min(1.0, max(0.0, foreign_s / capacity_s)) if capacity_s > 0 else 0.0


def _spent() -> _Spent:
    times = psutil.cpu_times()
    # What a host gave to other machines is lost here too.
    busy = ("user", "nice", "system", "irq", "softirq", "steal")
    return _Spent(sum(getattr(times, name, 0.0) for name in busy), process_time(), monotonic())
