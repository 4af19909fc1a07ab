"""A comparison for a terminal: what differs in what was run first, then figures."""

from collections.abc import Sequence

from rich.console import Console

from pocketlm.device_tests.quantities import (
    NOTHING,
    byte_unit,
    duration_text,
    percent_text,
    rate_text,
)
from pocketlm.device_tests.report.comparison import Comparison, SizeChange, TimeChange
from pocketlm.device_tests.report.terminal import sizes_table, write
from pocketlm.device_tests.report.wording import verdict_words


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a comparison in the width that the console has."""
    verdicts = [verdict_words(v) for v in (comparison.before_verdict, comparison.after_verdict)]
    write(console, f"before: {verdicts[0]}; after: {verdicts[1]}", "bold")
    _print_facts(comparison, console)
    for note in comparison.notes:
        write(console, f"note: {note}", "yellow")
    console.print()
    peak, *at_end = comparison.sizes
    _print_sizes(console, "at any time", (peak,))
    if comparison.parts:
        _print_sizes(console, f"at the end of {comparison.phase}", (*at_end, *comparison.parts))
    if comparison.times:
        _print_times(console, comparison.times)


def _print_facts(comparison: Comparison, console: Console) -> None:
    if not comparison.facts:
        write(console, "same bundle, device and run")
        return
    write(console, "what was run differs in:")
    rows = [(f"{fact.about}: {fact.name}", fact.before, fact.after) for fact in comparison.facts]
    console.print(sizes_table(console, ("fact", "before", "after"), rows))


def _print_sizes(console: Console, about: str, changes: Sequence[SizeChange]) -> None:
    known = [size for c in changes for size in (c.before_bytes, c.after_bytes) if size is not None]
    unit = byte_unit(known)
    rows = [
        (
            change.name,
            change.kind or "",
            NOTHING if change.before_bytes is None else unit.number(change.before_bytes),
            NOTHING if change.after_bytes is None else unit.number(change.after_bytes),
            NOTHING
            if change.difference_bytes is None
            else unit.signed_number(change.difference_bytes),
            "" if change.difference_ratio is None else percent_text(change.difference_ratio),
        )
        for change in changes
    ]
    heads = (about, "", f">before {unit.name}", ">after", ">difference", "> ")
    console.print(sizes_table(console, heads, rows))
    console.print()


def _print_times(console: Console, changes: Sequence[TimeChange]) -> None:
    rows = [
        (
            change.name,
            _time(change.before, change.unit),
            _time(change.after, change.unit),
            "" if change.difference_ratio is None else percent_text(change.difference_ratio),
        )
        for change in changes
    ]
    console.print(sizes_table(console, ("times", ">before", ">after", "> "), rows))


def _time(value: float | None, unit: str) -> str:
    if value is None:
        return NOTHING
    return duration_text(value) if unit == "s" else f"{rate_text(value)} {unit}"
