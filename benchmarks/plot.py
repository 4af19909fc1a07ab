"""Draws tokens per second and memory against depth as one SVG. Needs no library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, log10
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 400, 260, 56, 36, 76
_LINE_HEIGHT = 18
# Okabe and Ito's palette: told apart by readers who are colour-blind too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


@dataclass(frozen=True)
class Curve:
    """One system: points of (depth in tokens, value)."""

    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Panel:
    """One chart with axes from zero."""

    title: str
    curves: tuple[Curve, ...]

    @property
    def most(self) -> float:
        return round_up(max(value for curve in self.curves for _, value in curve.points))

    @property
    def deepest(self) -> float:
        return round_up(max(depth for curve in self.curves for depth, _ in curve.points))


def draw(document: Mapping[str, Any]) -> str:
    """Return the SVG of a result's depth part."""
    entries = {
        name: entry["figures"]["decode"]
        for name, entry in document["parts"]["depth"]["systems"].items()
        if entry["figures"]
    }
    panels = (
        Panel("decode, tokens/s", _curves(entries, _tokens_per_s)),
        Panel("model memory, MB", _curves(entries, _megabytes)),
    )
    height = _TOP + _HEIGHT + 40 + _LINE_HEIGHT * len(entries)
    width = 2 * (_LEFT + _WIDTH) + _GAP
    drawn = [_panel(panel, _LEFT + place * (_WIDTH + _GAP)) for place, panel in enumerate(panels)]
    legend = [_legend(name, place) for place, name in enumerate(entries)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *drawn,
            *legend,
            "</svg>\n",
        ]
    )


def round_up(value: float) -> float:
    """Return the next number of one or two digits and zeros, where an axis can end."""
    if value <= 0:
        return 1
    unit = 10 ** (ceil(log10(value)) - 1)
    return ceil(value / unit * 2) / 2 * unit


def _curves(entries: Mapping[str, Sequence[Any]], value: Any) -> tuple[Curve, ...]:
    return tuple(
        Curve(name, tuple((step["depth_tokens"], value(step)) for step in steps))
        for name, steps in entries.items()
    )


def _tokens_per_s(step: Mapping[str, Any]) -> float:
    return float(step["tokens_per_s"]["median"])


def _megabytes(step: Mapping[str, Any]) -> float:
    return float(step["model"]["resident_bytes"]["median"]) / 1e6


def _panel(panel: Panel, left: int) -> str:
    bottom = _TOP + _HEIGHT
    parts = [_text(left, _TOP - 14, panel.title, "start", bold=True)]
    for fifth in range(6):
        y = bottom - _HEIGHT * fifth / 5
        parts.append(f'<path d="M{left} {y:.1f}h{_WIDTH}" stroke="#ddd"/>')
        parts.append(_text(left - 6, y + 4, f"{panel.most * fifth / 5:,.0f}", "end"))
        x = left + _WIDTH * fifth / 5
        parts.append(_text(x, bottom + 16, f"{panel.deepest * fifth / 5 / 1000:g}k", "middle"))
    parts.append(_text(left + _WIDTH / 2, bottom + 32, "tokens in the caches", "middle"))
    for place, curve in enumerate(panel.curves):
        parts.append(_curve(curve, panel, left, _COLOURS[place % len(_COLOURS)]))
    return "\n".join(parts)


def _curve(curve: Curve, panel: Panel, left: int, colour: str) -> str:
    places = [
        (
            left + _WIDTH * depth / panel.deepest,
            _TOP + _HEIGHT - _HEIGHT * value / panel.most,
        )
        for depth, value in curve.points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
    return f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _legend(name: str, place: int) -> str:
    y = _TOP + _HEIGHT + 52 + _LINE_HEIGHT * place
    colour = _COLOURS[place % len(_COLOURS)]
    return f'<path d="M{_LEFT} {y - 4}h24" stroke="{colour}" stroke-width="3"/>' + _text(
        _LEFT + 32, y, name, "start"
    )


def _text(x: float, y: float, text: str, anchor: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
