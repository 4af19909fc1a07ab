"""A line over time drawn with characters."""

from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " .:-=+*#@"  # likewise eight steps


def resampled(points: Sequence[tuple[float, float]], end: float, columns: int) -> tuple[float, ...]:
    """Return the largest value of each of equal spans of 0..end: peaks must not be lost.

    A span without a point has the value before it.

    Args:
        points: time and value, by ascending time; at least one.
    """
    largest: list[float | None] = [None] * columns
    for time, value in points:
        column = min(int(time / end * columns), columns - 1) if end > 0 else 0
        known = largest[max(column, 0)]
        largest[max(column, 0)] = value if known is None else max(known, value)
    values, last = [], points[0][1]
    for found in largest:
        last = last if found is None else found
        values.append(last)
    return tuple(values)


def block_rows(
    values: Sequence[float], high: float, rows: int, as_ascii: bool = False
) -> tuple[str, ...]:
    """Return lines of characters, the top first, that show values of 0..high as columns.

    Each line adds eight steps of height. A value above 0 shows at least one step.
    """
    characters = _ASCII if as_ascii else _BLOCKS
    steps = []
    for value in values:
        share = min(max(value / high, 0.0), 1.0) if high > 0 else 0.0
        steps.append(max(round(share * rows * 8), 1 if value > 0 else 0))
    return tuple(
        "".join(characters[min(max(step - 8 * row, 0), 8)] for step in steps)
        for row in reversed(range(rows))
    )


def ruler(ends: Sequence[tuple[str, float]], end: float, columns: int) -> str:
    """Return a line that names spans below such columns, as far as names have room.

    Args:
        ends: each span's name and end, ascending; the first begins at 0.
    """
    line, start = "", 0
    for name, at in ends:
        stop = min(max(round(at / end * columns) if end > 0 else 0, start), columns)
        room = stop - start - 1
        if room >= 0:
            line += f"{name if len(name) <= room else '':<{room}}|"
        start = stop
    return line.ljust(columns)[:columns]
