"""SVG elements as text."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from pocketlm.runtime_py.terminal import printable_line

Value = str | float


def element(name: str, attributes: Mapping[str, Value], *inside: str) -> Markup:
    """Return an element; text inside is escaped, elements are taken as they are.

    Args:
        attributes: a number is written to a tenth of a pixel.
    """
    written = "".join(f' {key}="{_attribute(value)}"' for key, value in attributes.items())
    content = "".join(str(_safe(part)) for part in inside)
    return Markup(f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>")


def text(x: float, y: float, what: str, kind: str, anchor: str = "start") -> Markup:
    """Return one line of text.

    Args:
        kind: class of its look.
        anchor: which of its ends stands at x: "start", "middle" or "end".
    """
    return element("text", {"x": x, "y": y, "class": kind, "text-anchor": anchor}, what)


def line(start: tuple[float, float], end: tuple[float, float], kind: str) -> Markup:
    """Return a straight line."""
    ends = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}
    return element("line", {**ends, "class": kind})


def polyline(points: Iterable[tuple[float, float]], kind: str) -> Markup:
    """Return a line through points."""
    written = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return element("polyline", {"points": written, "class": kind})


def group(parts: Sequence[Markup], attributes: Mapping[str, Value] | None = None) -> Markup:
    """Return elements as one."""
    return element("g", attributes or {}, *parts)


def number(value: float) -> str:
    """Return a coordinate, to a tenth of a pixel."""
    short = f"{value:.1f}"
    return short.removesuffix(".0")


def text_width(what: str, size: float, bold: bool = False) -> float:
    """Return about how wide a text is, rather too wide: the page's font is the reader's."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in what)
    return size * ((0.7 if bold else 0.6) * (len(what) - wide) + 1.05 * wide)


def fitted(what: str, room: float, size: float, bold: bool = False) -> str:
    """Return a text, cut where it would be wider than its room."""
    text = printable_line(what)
    if text_width(text, size, bold) <= room:
        return text
    kept = text[: int(room)]  # no letter is narrower than a pixel, and a name may be a megabyte
    while kept and text_width(f"{kept}…", size, bold) > room:
        kept = kept[:-1]
    return f"{kept}…"


def _attribute(value: Value) -> str:
    return str(escape(printable_line(value))) if isinstance(value, str) else number(value)


def _safe(part: str) -> Markup:
    return part if isinstance(part, Markup) else escape(printable_line(part))
