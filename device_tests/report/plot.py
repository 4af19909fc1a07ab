"""What both charts stand in: a frame of one size, axes, and the stamp of emulated runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pocketlm.device_tests.report import svg
from pocketlm.device_tests.report.scale import Scale, ticks

Point = tuple[float, float]
# Finer than the eye or a printer resolves.
_MOST_COLUMNS = 1200


@dataclass(frozen=True)
class Frame:
    """The size of a drawing and of its margins, in pixels of the page.

    A page holds each chart twice, for wide and for narrow screens: scaled down, text would be too
    small to read.

    Attributes:
        names_beside: whether the right margin has room for names.
    """

    name: str
    width: float
    height: float
    left: float
    right: float
    bottom: float
    font: float
    names_beside: bool

    def drawing(self, prefix: str, title: str, description: str, parts: Sequence[Markup]) -> Markup:
        """Return the whole drawing, named for those who cannot see it.

        Args:
            prefix: of its ids; another on each drawing of a page.
        """
        attributes: dict[str, svg.Value] = {
            "viewBox": f"0 0 {svg.number(self.width)} {svg.number(self.height)}",
            "class": f"chart {self.name}",
            "font-size": self.font,
            "role": "img",
            "aria-labelledby": f"{prefix}-title {prefix}-text",
        }
        return svg.element(
            "svg", attributes,
            svg.element("title", {"id": f"{prefix}-title"}, title),
            svg.element("desc", {"id": f"{prefix}-text"}, description),
            *parts,
        )  # fmt: skip


@dataclass(frozen=True)
class AxisUnit:
    """What an axis is labelled in."""

    name: str
    size: float


def axis_unit(largest_bytes: float) -> AxisUnit:
    """Return the unit whose numbers are short: GB from one of them on, then MB, kB."""
    for name, size in (("GB", 1e9), ("MB", 1e6)):
        if largest_bytes >= size:
            return AxisUnit(name, size)
    return AxisUnit("kB", 1e3)


def value_axis(scale: Scale, unit: AxisUnit, frame: Frame, ticks_wanted: int) -> Iterator[Markup]:
    """Yield lines across the frame at round values, and their numbers at its left."""
    found = ticks(0, scale.high / unit.size, ticks_wanted)
    for value in found:
        y = scale.pixel(value * unit.size)
        yield svg.line((frame.left, y), (frame.width - frame.right, y), "grid" if value else "axis")
        words = f"{value:,.10g} {unit.name}" if value == found[-1] and value else f"{value:,.10g}"
        yield svg.text(frame.left - 6, y + 4, words.strip(), "tick", "end")


def time_axis(scale: Scale, frame: Frame, shown: bool) -> Iterator[Markup]:
    """Yield round seconds below the frame; where they may not be shown, only say so."""
    y = frame.height - frame.bottom
    if not shown:
        yield svg.text(scale.start, y + 18, "time → (emulated, not shown)", "tick")
        return
    found = ticks(0, scale.high, 9 if frame.names_beside else 5)
    for value in found:
        x = scale.pixel(value)
        yield svg.line((x, y), (x, y + 4), "axis")
        words = f"{value:,.10g} s" if value == found[-1] else f"{value:,.10g}"
        yield svg.text(x, y + 18, words, "tick", "middle")


def watermark(frame: Frame, y: float) -> Markup:
    """Return the stamp that stays on a chart that is cut out of its page."""
    x = (frame.left + frame.width - frame.right) / 2
    size = (frame.width - frame.left - frame.right) / 8
    return svg.element(
        "text",
        {"x": x, "y": y + size / 3, "class": "watermark", "text-anchor": "middle",
         "font-size": size},
        "EMULATED",
    )  # fmt: skip


def thinned(points: Sequence[Point], most_columns: int = _MOST_COLUMNS) -> list[Point]:
    """Return fewer points that look the same: of each column the first, extremes and the last.

    Args:
        points: by ascending x.
    """
    if len(points) <= 2 * most_columns:
        return list(points)
    start, width = points[0][0], (points[-1][0] - points[0][0]) / most_columns
    columns: dict[int, list[int]] = {}
    for i, (x, _) in enumerate(points):
        columns.setdefault(int((x - start) / width) if width > 0 else 0, []).append(i)
    kept: set[int] = set()
    for column in columns.values():
        extremes = (choose(column, key=lambda i: points[i][1]) for choose in (min, max))
        kept.update((column[0], column[-1], *extremes))
    return [points[i] for i in sorted(kept)]
