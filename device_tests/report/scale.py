"""Where ticks and labels stand on an axis, and how values become coordinates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True)
class Scale:
    """A linear axis: values from `low` to `high` stand at coordinates from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __post_init__(self) -> None:
        assert self.low < self.high, f"an axis from {self.low} to {self.high}"

    def pixel(self, value: float) -> float:
        """Return the coordinate of a value; values outside are at the end of the axis."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return round values in low..high, evenly apart: multiples of 1, 2 or 5 and a power of ten.

    Args:
        low: 0 or more.
        most: how many at most; at least 2. There may be half as many, or fewer.
    """
    assert 0 <= low < high and most >= 2, f"{most} ticks in {low}..{high}"
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    # A hair of room: 0.3 / 0.1 is a little less than 3.
    step = next(power * s for s in _STEPS if power * s * (1 + 1e-9) >= rough)
    first, last = math.ceil(low / step * (1 - 1e-9)), math.floor(high / step * (1 + 1e-9))
    return tuple(step * i for i in range(first, last + 1))


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> tuple[float, ...]:
    """Return coordinates near those that are wanted, at least `gap` apart, inside low..high.

    Args:
        wanted: ascending.

    Returns:
        Ascending coordinates. Where there is no room, the gap shrinks, alike for all.
    """
    if not wanted:
        return ()
    if len(wanted) > 1:
        gap = min(gap, (high - low) / (len(wanted) - 1))
    coordinates: list[float] = []
    for coordinate in wanted:
        coordinates.append(max(coordinate, coordinates[-1] + gap if coordinates else low))
    # What was pushed past the end goes back, and pushes its neighbours.
    limit = high
    for i in reversed(range(len(coordinates))):
        coordinates[i] = min(coordinates[i], limit)
        limit = coordinates[i] - gap
    return tuple(coordinates)


def rows_of_labels(spans: Sequence[tuple[float, float]], gap: float) -> tuple[int, ...]:
    """Return the row of each label, from 0, so that labels of a row stand apart.

    Args:
        spans: start and end of each label, in the order of their starts.
    """
    ends: list[float] = []
    rows = []
    for start, end in spans:
        row = next((i for i, taken in enumerate(ends) if taken + gap <= start), len(ends))
        if row == len(ends):
            ends.append(end)
        else:
            ends[row] = end
        rows.append(row)
    return tuple(rows)
