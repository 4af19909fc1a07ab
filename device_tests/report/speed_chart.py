"""Tokens per second over the context as one drawing: each token, and how it goes in the middle."""

from statistics import median

from markupsafe import Markup

from pocketlm.device_tests.profiling.document import Report, Step
from pocketlm.device_tests.profiling.figures import decode_steps, is_emulated, speeds
from pocketlm.device_tests.quantities import rate_text
from pocketlm.device_tests.report import svg
from pocketlm.device_tests.report.plot import AxisUnit, Frame, thinned, value_axis
from pocketlm.device_tests.report.scale import Scale, ticks

_TOP = 22
_WINDOWS = 24  # of which the line shows the middles
_FEWEST = 8  # tokens; the figures above show fewer


def speed_chart(report: Report, frame: Frame) -> Markup | None:
    """Return the drawing; None where there is too little to draw, or times are the emulator's."""
    steps = sorted(decode_steps(report), key=lambda step: step.position)
    rate = speeds(report)
    if is_emulated(report) or rate is None or rate.decode_per_s is None or len(steps) < _FEWEST:
        return None
    first, last = steps[0].position, steps[-1].position
    if first == last:
        return None
    position = Scale(first, last, frame.left, frame.width - frame.right)
    # One token that took no time at all must not press all others to the floor.
    highest = max(_middle(steps) * 1.25, *(y for _, y in _windows(steps)))
    speed = Scale(0, highest, frame.height - frame.bottom, _TOP)
    dots = [
        svg.element(
            "circle",
            {"cx": position.pixel(step.position), "cy": speed.pixel(1 / step.wall_s), "r": 1.6,
             "class": "token"},
        )
        for step in steps
    ]  # fmt: skip
    middles = [(position.pixel(x), speed.pixel(y)) for x, y in _windows(steps)]
    slow, fast = (rate_text(y) for y in _fastest_and_slowest(steps))
    parts = [
        svg.text(0, 12, "tokens/s", "tick"),
        *value_axis(speed, AxisUnit("", 1), frame, ticks_wanted=5),
        svg.group(dots[:: max(len(dots) // 3000, 1)]),
        svg.polyline(thinned(middles), "resident-halo"),
        svg.polyline(thinned(middles), "resident"),
        *_position_axis(first, last, position, frame),
    ]
    words = (
        f"Decoding made {rate_text(rate.decode_per_s)} tokens a second in all; nine of ten tokens "
        f"were between {slow} and {fast}."
    )
    return frame.drawing(f"speed-{frame.name}", "Decoding speed over the context", words, parts)


def _windows(steps: list[Step]) -> list[tuple[float, float]]:
    """Return the middle position and speed of equal shares of the tokens."""
    size = max(len(steps) // _WINDOWS, 1)
    shares = [steps[i : i + size] for i in range(0, len(steps), size)]
    return [(median(step.position for step in share), _middle(share)) for share in shares]


def _middle(steps: list[Step]) -> float:
    return median(1 / step.wall_s for step in steps)


def _fastest_and_slowest(steps: list[Step]) -> tuple[float, float]:
    rates = sorted(1 / step.wall_s for step in steps)
    outside = len(rates) // 20
    return rates[outside], rates[-1 - outside]


def _position_axis(first: int, last: int, scale: Scale, frame: Frame) -> list[Markup]:
    y = frame.height - frame.bottom
    marks = []
    for value in ticks(first, last, 9 if frame.names_beside else 5):
        x = scale.pixel(value)
        marks += [
            svg.line((x, y), (x, y + 4), "axis"),
            svg.text(x, y + 18, f"{value:,.10g}", "tick", "middle"),
        ]
    marks.append(svg.text(frame.left, y + 34, "tokens in the context", "tick"))
    return marks
