"""An advice as one HTML page that needs nothing else: a plot of KL over memory, and the table.

What names and paths say is escaped by the template, and the page forbids itself scripts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from pocketlm.advisor.advice import Advice, Compared
from pocketlm.advisor.wording import COLUMNS, headline, legend, losses, row, verdict, where_it_lies
from pocketlm.runtime_py.sizes import size_text
from pocketlm.runtime_py.terminal import printable_line

_FOLDER = Path(__file__).parent
# Of the drawing, in its own units, and of its margins.
WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 20, 50
# Logarithms need something; float32 measures no less.
_LEAST_KL = 1e-6
_STEPS = (1, 2, 5)
# Of a name in the plot.
_LINE = 14
# Of both axes, beyond what is shown.
_ROOM = 0.08


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on coordinates from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Return the coordinate of a value, to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


@dataclass(frozen=True)
class Tick:
    """A round value of an axis."""

    place: float
    label: str


@dataclass(frozen=True)
class Point:
    """One candidate in the plot.

    Attributes:
        label_y: where its name stands: names of neighbours must not cover each other.
        anchor: which end of the name is at the point.
    """

    x: float
    y: float
    label: str
    label_x: float
    label_y: float
    anchor: str
    kind: str
    title: str


def render_html(advice: Advice) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    measured = advice.measured
    across, up = axes(measured)
    return environment.get_template("page.html.jinja").render(
        title=headline(advice),
        verdict=verdict(advice),
        legend=legend(advice),
        advice=advice,
        columns=COLUMNS,
        rows=[(one.status, row(one)) for one in measured],
        losses=list(losses(advice)),
        bundle=where_it_lies(advice),
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT,
               "top": TOP, "bottom": HEIGHT - BOTTOM},
        points=points(measured, across, up),
        front=_front(measured, across, up),
        memory_ticks=_memory_ticks(across),
        kl_ticks=_kl_ticks(up),
    )  # fmt: skip


def _shown(value: object) -> object:
    """Return what the template writes in place of a value."""
    return printable_line(value) if isinstance(value, str) else value


def axes(measured: Sequence[Compared]) -> tuple[Axis, Axis]:
    """Return memory across, and the logarithm of KL up."""
    across = _with_room([_memory(one) for one in measured])
    up = _with_room([_log_kl(one) for one in measured])
    return Axis(*across, LEFT, WIDTH - RIGHT), Axis(*up, HEIGHT - BOTTOM, TOP)


def points(measured: Sequence[Compared], across: Axis, up: Axis) -> list[Point]:
    """Return a point for each candidate; names on the side where there is room."""
    by_height = sorted(measured, key=_log_kl, reverse=True)
    heights = [up.place(_log_kl(one)) for one in by_height]
    found = []
    for one, y, label_y in zip(by_height, heights, _apart(heights), strict=True):
        x = across.place(_memory(one))
        is_left = x > (LEFT + WIDTH - RIGHT) / 2
        kind = "chosen" if one.status == "chosen" else "dominated" if one.is_dominated else "other"
        side = (round(x - 9, 1), "end") if is_left else (round(x + 9, 1), "start")
        found.append(Point(x, y, one.name, side[0], label_y, side[1], kind, _title(one)))
    return found


def _title(one: Compared) -> str:
    """Return what a point says where a pointer rests on it."""
    assert one.record is not None, "measured"
    cells = row(one)
    kl_nats = f"KL {cells[3]} ± {one.record.kl_error_nats:.4f}"
    return f"{one.name}: {cells[1]}, {kl_nats}, same top token {cells[4]}"


def _apart(heights: Sequence[float]) -> list[float]:
    """Return where names stand: beside their points, from the top down, and not on each other."""
    found: list[float] = []
    for height in heights:
        found.append(max(height + 4, found[-1] + _LINE if found else 0))
    limit = float(HEIGHT - BOTTOM)
    for number in reversed(range(len(found))):
        found[number] = round(min(found[number], limit), 1)
        limit = found[number] - _LINE
    return found


def _front(measured: Sequence[Compared], across: Axis, up: Axis) -> str:
    """Return the steps through candidates that none dominates, as points of a line."""
    front = sorted((_memory(one), _log_kl(one)) for one in measured if not one.is_dominated)
    places = [(across.place(x), up.place(y)) for x, y in front]
    # Down only: equal ones may stand in any order.
    heights = list(accumulate((y for _, y in places), max))
    corners = [
        f"{x},{before} {x},{y}"
        for (x, _), before, y in zip(places, [*heights[:1], *heights], heights, strict=False)
    ]
    return " ".join(corners)


def _memory(one: Compared) -> int:
    assert one.memory is not None, "measured, so predicted"
    return one.memory.peak_bytes


def _log_kl(one: Compared) -> float:
    assert one.record is not None, "measured"
    return math.log10(max(one.record.kl_nats, _LEAST_KL))


def _with_room(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = _ROOM * (high - low) or _ROOM * abs(high) or 1.0
    return low - room, high + room


def _memory_ticks(axis: Axis) -> list[Tick]:
    rough = (axis.high - axis.low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * one for one in _STEPS if power * one >= rough), 10 * power)
    first, last = math.ceil(max(axis.low, 0) / step), math.floor(axis.high / step)
    values = (step * number for number in range(first, last + 1))
    return [Tick(axis.place(value), size_text(value)) for value in values]


def _kl_ticks(axis: Axis) -> list[Tick]:
    powers = range(math.floor(axis.low), math.ceil(axis.high) + 1)
    values = [step * 10.0**power for power in powers for step in _STEPS]
    inside = [value for value in values if axis.low <= math.log10(value) <= axis.high]
    return [Tick(axis.place(math.log10(value)), f"{value:g}") for value in inside]
