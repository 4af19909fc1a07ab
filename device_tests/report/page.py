"""A report as one HTML page that needs nothing else: no network, no script, no other file.

Everything that a device says is escaped by the template or by the drawings, and the page forbids
itself scripts and requests, should that ever fail.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pocketlm.device_tests.profiling import figures
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.figures import LedgerRow
from pocketlm.device_tests.quantities import ByteUnit, byte_unit
from pocketlm.device_tests.report import svg, wording
from pocketlm.device_tests.report.facts_shown import fact_lists
from pocketlm.device_tests.report.headline import headline
from pocketlm.device_tests.report.layers import REST, Layer, stack
from pocketlm.device_tests.report.ledger_shown import (
    LedgerText,
    band_text,
    folios_text,
    ledger_text,
)
from pocketlm.device_tests.report.memory_chart import ends_in_stack, memory_chart
from pocketlm.device_tests.report.plot import Frame
from pocketlm.device_tests.report.speed_chart import speed_chart
from pocketlm.runtime_py.terminal import printable_line

_FOLDER = Path(__file__).parent
_MEMORY_FRAMES = (
    Frame("wide", 900, 410, left=60, right=210, bottom=30, font=13, names_beside=True),
    Frame("narrow", 358, 370, left=54, right=10, bottom=28, font=11.5, names_beside=False),
)
_SPEED_FRAMES = (
    Frame("wide", 900, 210, left=60, right=16, bottom=44, font=13, names_beside=True),
    Frame("narrow", 358, 220, left=54, right=10, bottom=42, font=11.5, names_beside=False),
)
_BAR_WIDTH = 120
_MOST_DIFFERENCES = 100


@dataclass(frozen=True)
class _Line:
    """A row of the ledger, as text and as a bar."""

    text: LedgerText
    swatch: Markup
    bar: Markup


def render_html(report: Report) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    unit = byte_unit((figures.peak_bytes(report) or 0,))
    return environment.get_template("page.html.jinja").render(
        report=report,
        figures=figures,
        wording=wording,
        headline=headline(report),
        fact_lists=fact_lists(report),
        memory_charts=_drawn(memory_chart(report, frame) for frame in _MEMORY_FRAMES),
        speed_charts=_drawn(speed_chart(report, frame) for frame in _SPEED_FRAMES),
        key=[(_swatch(layer.color, layer.kind), layer) for layer in stack(report)],
        lines=_lines(report, unit),
        totals=[ledger_text(row, unit) for row in figures.total_rows(report)],
        phases=_phases(report, unit),
        names_beside=ends_in_stack(report),
        last_phase=figures.last_phase(report),
        unit=unit.name,
        band=band_text(report),
        folios=folios_text(report),
        most_differences=_MOST_DIFFERENCES,
    )


def _plain(value: object) -> object:
    return printable_line(value) if type(value) is str else value


def _drawn(charts: Iterable[Markup | None]) -> list[Markup]:
    return [chart for chart in charts if chart is not None]


def _phases(report: Report, unit: ByteUnit) -> list[tuple[str, list[str]]]:
    return [
        (
            phase.name,
            [
                unit.number(size)
                for size in (
                    phase.peak_bytes, phase.resident_bytes, phase.dirty_bytes, phase.clean_bytes,
                    phase.swap_bytes,
                )
            ],
        )
        for phase in report.phases
    ]  # fmt: skip


def _lines(report: Report, unit: ByteUnit) -> list[_Line]:
    rows, looks = figures.ledger_rows(report), _looks(stack(report))
    largest = max((max(row.measured_bytes, row.predicted_bytes or 0) for row in rows), default=0)
    lines = []
    for row in rows:
        color = looks.get((row.part, row.kind), REST)
        swatch = _swatch(color, row.kind or "dirty")
        lines.append(_Line(ledger_text(row, unit), swatch, _bar(row, color, largest)))
    return lines


def _looks(layers: tuple[Layer, ...]) -> dict[tuple[str, str | None], int]:
    return {(part, layer.kind): layer.color for layer in layers for part in layer.parts}


def _swatch(color: int, kind: str) -> Markup:
    look = {"width": 12, "height": 12}
    if kind == "dirty":
        inside = [svg.element("rect", {**look, "class": f"color-{color}"})]
    else:
        inside = [
            svg.element("rect", {**look, "class": f"tint color-{color}"}),
            svg.element("path", {"d": "M0 6 6 0M0 12 12 0M6 12 12 6",
                                 "class": f"hatch line-{color}"}),
        ]  # fmt: skip
    attributes: dict[str, svg.Value] = {"viewBox": "0 0 12 12", "class": "swatch"}
    return svg.element("svg", {**attributes, "aria-hidden": "true"}, *inside)


def _bar(row: LedgerRow, color: int, largest: int) -> Markup:
    """Return what was measured as a bar, and where the prediction ends as a mark on it."""
    if largest <= 0:
        return Markup("")
    width = max(_BAR_WIDTH * row.measured_bytes / largest, 0.5)
    shape: dict[str, svg.Value] = {"y": 3, "width": width, "height": 8}
    look = f"color-{color}" if row.kind != "clean" else f"tint line-{color} color-{color} outlined"
    parts = [svg.element("rect", {**shape, "class": look})]
    if row.predicted_bytes is not None:
        x = _BAR_WIDTH * row.predicted_bytes / largest
        parts.append(svg.line((x, 0), (x, 14), "predicted"))
    attributes: dict[str, svg.Value] = {"viewBox": f"-1 0 {_BAR_WIDTH + 2} 14", "class": "bar"}
    return svg.element("svg", {**attributes, "aria-hidden": "true"}, *parts)
