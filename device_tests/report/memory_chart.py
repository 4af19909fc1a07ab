"""Memory over time as one drawing: the stack of parts, what was sampled, and what was left.

Parts are known at the end of a phase and drawn across it; the sampled line tells what happened in
between. MemAvailable has a strip of its own: it says what is left beside the run, so no height of
the stack could be read against it.
"""

from dataclasses import dataclass

from markupsafe import Markup

from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.figures import has_measured, is_emulated, peak_bytes
from pocketlm.device_tests.quantities import size_text
from pocketlm.device_tests.report import svg
from pocketlm.device_tests.report.layers import Layer, stack
from pocketlm.device_tests.report.plot import (
    Frame,
    axis_unit,
    thinned,
    time_axis,
    value_axis,
    watermark,
)
from pocketlm.device_tests.report.scale import Scale, rows_of_labels, spread
from pocketlm.device_tests.report.wording import verdict_words

_ROW = 17  # height of a row of phase labels
_MOST_ROWS = 4  # names beyond these stand in the table of phases only
_STRIP = 46  # height of the strip of MemAvailable
_STRIP_GAP = 22
_HEADROOM = 1.08


@dataclass(frozen=True)
class _Canvas:
    """Where everything stands."""

    frame: Frame
    time: Scale
    memory: Scale
    prefix: str


def memory_chart(report: Report, frame: Frame) -> Markup | None:
    """Return the drawing; None where nothing was sampled and no phase came to its end."""
    peak = peak_bytes(report)
    ends = [phase.end_s for phase in report.phases] + [s.clock_s for s in report.samples]
    last_s = max(ends, default=0.0)
    if not peak or last_s <= 0:
        return None
    available = [
        (s.clock_s, s.available_bytes) for s in report.samples if s.available_bytes is not None
    ]
    time = Scale(0, last_s, frame.left, frame.width - frame.right)
    labels, rows = _phase_labels(report, time, frame)
    top = _ROW * max(rows, 1) + 10
    bottom = frame.height - frame.bottom - (_STRIP + _STRIP_GAP if available else 0)
    canvas = _Canvas(frame, time, Scale(0, _HEADROOM * peak, bottom, top), f"memory-{frame.name}")
    layers = stack(report)
    parts = [
        _patterns(layers, canvas),
        *value_axis(canvas.memory, axis_unit(peak), frame, ticks_wanted=6),
        *(_layer(layers, i, report, canvas) for i in range(len(layers))),
        *_phase_marks(report, labels, canvas),
        *_resident(report, canvas),
        *_peak_mark(report, peak, canvas),
        *_stack_labels(layers, report, canvas),
        *(_available_strip(available, canvas) if available else ()),
        *time_axis(time, frame, shown=not is_emulated(report)),
    ]
    if is_emulated(report):
        parts.append(watermark(frame, (top + bottom) / 2))
    return frame.drawing(canvas.prefix, "Memory over time", _description(report, peak), parts)


def ends_in_stack(report: Report) -> bool:
    """Return whether the last phase reaches the end of the drawing, where names can stand."""
    last_s = max((sample.clock_s for sample in report.samples), default=0.0)
    return bool(report.phases) and report.phases[-1].end_s >= 0.97 * last_s


def _description(report: Report, peak: int) -> str:
    phases = "; ".join(
        f"at the end of {phase.name}: {size_text(phase.resident_bytes)} resident, "
        f"{size_text(phase.dirty_bytes)} of it dirty"
        for phase in report.phases
    )
    return f"The peak is {size_text(peak)}. {phases}".strip()


def _phase_labels(
    report: Report, time: Scale, frame: Frame
) -> tuple[list[tuple[str, float, float, int]], int]:
    """Return each phase's name, the x of its end, of its label, and its row; and the rows."""
    # A phase is named for the state at its end, so its name stands there.
    ends = [(phase.name, time.pixel(phase.end_s)) for phase in report.phases]
    if not has_measured(report):
        ends.append((verdict_words(report.verdict), time.end))
    named = [(svg.fitted(name, frame.width / 3, frame.font, bold=True), x) for name, x in ends]
    spans = []
    for name, middle in named:
        half = svg.text_width(name, frame.font, bold=True) / 2 + 2
        center = min(max(middle, half), frame.width - half)
        spans.append((center - half, center + half))
    rows = rows_of_labels(spans, gap=10)
    labels = [
        (name, middle, (span[0] + span[1]) / 2, row)
        for (name, middle), span, row in zip(named, spans, rows, strict=True)
    ]
    labels = [
        (name if row < _MOST_ROWS else "", x, center, min(row, _MOST_ROWS - 1))
        for name, x, center, row in labels
    ]
    return labels, min(max(rows, default=0) + 1, _MOST_ROWS)


def _phase_marks(
    report: Report, labels: list[tuple[str, float, float, int]], canvas: _Canvas
) -> list[Markup]:
    bottom = canvas.memory.start
    marks = [svg.line((x, 18 + _ROW * row), (x, bottom), "phase-end") for _, x, _, row in labels]
    for name, _, center, row in labels:
        if name:
            marks.append(svg.text(center, 12 + _ROW * row, name, "phase-name", "middle"))
    return marks


def _layer(layers: tuple[Layer, ...], place: int, report: Report, canvas: _Canvas) -> Markup:
    layer, outline = layers[place], []
    for i, phase in enumerate(report.phases):
        size = layer.sizes_bytes[i]
        if not size:
            continue
        below = sum(other.sizes_bytes[i] for other in layers[:place])
        left, right = canvas.time.pixel(phase.start_s), canvas.time.pixel(phase.end_s)
        low, high = canvas.memory.pixel(below), canvas.memory.pixel(below + size)
        outline.append(
            f"M{svg.number(left)} {svg.number(low)}V{svg.number(high)}"
            f"H{svg.number(max(right, left + 1))}V{svg.number(low)}Z"
        )
    last = next(size for size in reversed(layer.sizes_bytes) if size)
    hint = f"{layer.name}, {layer.kind}: {size_text(last)}; {', '.join(layer.parts)}"
    shape = {"d": "".join(outline), "class": f"layer {_look(layer)}"}
    if layer.kind == "clean":
        shape["fill"] = f"url(#{canvas.prefix}-hatch-{layer.color})"
    return svg.element("path", shape, svg.element("title", {}, hint))


def _look(layer: Layer) -> str:
    return f"dirty color-{layer.color}" if layer.kind == "dirty" else "clean"


def _patterns(layers: tuple[Layer, ...], canvas: _Canvas) -> Markup:
    patterns = []
    for color in sorted({layer.color for layer in layers if layer.kind == "clean"}):
        size = {"width": 6, "height": 6}
        place = {"patternUnits": "userSpaceOnUse", "patternTransform": "rotate(45)"}
        patterns.append(
            svg.element(
                "pattern", {"id": f"{canvas.prefix}-hatch-{color}", **size, **place},
                svg.element("rect", {**size, "class": f"tint color-{color}"}),
                svg.element("rect", {"width": 2, "height": 6, "class": f"color-{color}"}),
            )
        )  # fmt: skip
    return svg.element("defs", {}, *patterns)


def _resident(report: Report, canvas: _Canvas) -> list[Markup]:
    points = thinned(
        [
            (canvas.time.pixel(s.clock_s), canvas.memory.pixel(s.resident_bytes))
            for s in report.samples
        ]
    )
    if not points:
        return []
    return [svg.polyline(points, "resident-halo"), svg.polyline(points, "resident")]


def _peak_mark(report: Report, peak: int, canvas: _Canvas) -> list[Markup]:
    highest = max(report.samples, key=lambda sample: sample.resident_bytes, default=None)
    phase = max(report.phases, key=lambda phase: phase.peak_bytes, default=None)
    inside = highest is not None and (
        phase is None or phase.start_s <= highest.clock_s <= phase.end_s
        or highest.resident_bytes == peak
    )  # fmt: skip
    if highest is not None and inside:
        x = canvas.time.pixel(highest.clock_s)
    elif phase is not None:
        x = canvas.time.pixel((phase.start_s + phase.end_s) / 2)
    else:
        return []
    y, words = canvas.memory.pixel(peak), f"peak {size_text(peak)}"
    fits = x + 10 + svg.text_width(words, canvas.frame.font) < canvas.time.end
    # Above the peak: nothing is drawn there that could strike the words through.
    left, base, anchor = (x, y - 7, "start") if fits else (x, y - 7, "end")
    return [
        svg.element("circle", {"cx": x, "cy": y, "r": 3.5, "class": "peak"}),
        svg.text(left, base, words, "peak-name", anchor),
    ]


def _stack_labels(layers: tuple[Layer, ...], report: Report, canvas: _Canvas) -> list[Markup]:
    """Return the layers' names beside the stack of the last phase, where there is room."""
    if not canvas.frame.names_beside or not ends_in_stack(report):
        return []
    shown, below = [], 0
    for layer in layers:
        size_bytes = layer.sizes_bytes[-1]
        if size_bytes:
            shown.append((layer, canvas.memory.pixel(below + size_bytes / 2)))
        below += size_bytes
    if not shown:
        return []
    wanted = [y for _, y in reversed(shown)]  # from the top down
    label_ys = spread(wanted, canvas.frame.font + 5, canvas.memory.end + 6, canvas.memory.start - 2)
    edge, names = canvas.time.end, []
    for (layer, y), label_y in zip(reversed(shown), label_ys, strict=True):
        size = f" {size_text(layer.sizes_bytes[-1])}"
        room = canvas.frame.right - 22 - svg.text_width(size, canvas.frame.font)
        name = svg.fitted(layer.name, room, canvas.frame.font)
        names += [
            svg.line((edge + 2, y), (edge + 16, label_y), "leader"),
            svg.text(edge + 20, label_y + 4, name + size, "part-name"),
        ]
    return names


def _available_strip(available: list[tuple[float, int]], canvas: _Canvas) -> list[Markup]:
    frame = canvas.frame
    bottom = frame.height - frame.bottom
    most, least = (choose(size for _, size in available) for choose in (max, min))
    scale = Scale(0, _HEADROOM * max(most, 1), bottom, bottom - _STRIP)
    points = thinned([(canvas.time.pixel(at), scale.pixel(size)) for at, size in available])
    words = f"MemAvailable {size_text(least)} to {size_text(most)}"
    return [
        *value_axis(scale, axis_unit(most), frame, ticks_wanted=2),
        svg.polyline(points, "available"),
        svg.text(canvas.time.start + 4, bottom - 6, words, "part-name"),
    ]
