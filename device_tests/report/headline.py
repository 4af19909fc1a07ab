"""The few figures that a reader looks for first, as the page and the terminal show them."""

from dataclasses import dataclass

from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.figures import (
    has_measured,
    last_phase,
    load_s,
    peak_bytes,
    speeds,
)
from pocketlm.device_tests.quantities import (
    NOTHING,
    duration_text,
    rate_text,
    share_text,
    size_text,
)
from pocketlm.device_tests.report.wording import TIMES_HIDDEN


@dataclass(frozen=True)
class Figure:
    """One figure: what it is, its number, and what to know about it.

    Attributes:
        unit: where it is longer than two letters; shorter ones stand in the value.
    """

    name: str
    value: str
    note: str = ""
    unit: str = ""


def headline(report: Report) -> tuple[Figure, ...]:
    """Return sizes, then times where they are a device's or this computer's own."""
    return (*_sizes(report), *_times(report))


def _sizes(report: Report) -> tuple[Figure, ...]:
    peak, end, ram_bytes = peak_bytes(report), last_phase(report), report.device.ram_bytes
    of_ram = (
        f"{share_text(peak / ram_bytes)} of {size_text(ram_bytes)}"
        if peak and ram_bytes > 0
        else ""
    )
    figures = [Figure("peak", NOTHING if peak is None else size_text(peak), of_ram)]
    if end is None:
        return (*figures, Figure("dirty", NOTHING), Figure("clean", NOTHING))
    whole = has_measured(report)
    when = f"at the end of {end.name}"
    figures += [
        Figure(
            "dirty",
            size_text(end.dirty_bytes),
            "only swap or a kill frees it" if whole else when,
        ),
        Figure("clean", size_text(end.clean_bytes), "can be read again" if whole else when),
    ]
    if end.swap_bytes:
        figures.append(Figure("in swap", size_text(end.swap_bytes), when))
    return tuple(figures)


def _times(report: Report) -> tuple[Figure, ...]:
    speed = speeds(report)
    if speed is None:
        return (Figure("times", "not shown", TIMES_HIDDEN),)
    load, first, slowest = load_s(report), speed.first_token_s, speed.slowest_decode_s
    return (
        Figure("load", NOTHING if load is None else duration_text(load)),
        Figure(
            "first token",
            NOTHING if first is None else duration_text(first),
            "" if first is None else f"after {report.run.prompt_tokens:,} of prompt",
        ),
        _rate("prefill", speed.prefill_per_s, ""),
        _rate(
            "decode",
            speed.decode_per_s,
            "" if slowest is None else f"slowest token {duration_text(slowest)}",
        ),
    )


def _rate(name: str, per_s: float | None, note: str) -> Figure:
    if per_s is None:
        return Figure(name, NOTHING)
    return Figure(name, rate_text(per_s), note, "tokens/s")
