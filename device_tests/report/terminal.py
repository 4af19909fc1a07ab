"""A report for a terminal: verdict, figures, memory over time, the ledger. 80 columns suffice.

Nothing depends on colour, and nothing that a device says can steer the terminal.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocketlm.device_tests.profiling import figures
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.quantities import (
    MINUS,
    NOTHING,
    byte_unit,
    duration_text,
    size_text,
)
from pocketlm.device_tests.report import wording
from pocketlm.device_tests.report.facts_shown import android_text
from pocketlm.device_tests.report.headline import headline
from pocketlm.device_tests.report.ledger_shown import band_text, folios_text, ledger_text
from pocketlm.device_tests.report.sparkline import block_rows, resampled, ruler
from pocketlm.runtime_py.terminal import printable_line

_COLORS = {"good": "green", "caution": "yellow", "bad": "red"}
_MOST_DIFFERENCES = 10
_MARGIN = 9  # of the drawing, for its scale
_ASCII = str.maketrans({MINUS: "-", NOTHING: "-", "×": "x", "…": "~", "°": " "})


def print_report(report: Report, console: Console) -> None:
    """Print a report in the width that the console has."""
    _print_verdict(report, console)
    _print_figures(report, console)
    _print_memory(report, console)
    _print_ledger(report, console)
    _print_answers(report, console)
    for warning in report.warnings:
        write(console, f"warning: {warning}")


def write(console: Console, text: str, style: str = "") -> None:
    """Print text as it is, wrapped at words."""
    console.print(shown(console, text, style))


def shown(console: Console, text: str, style: str = "") -> Text:
    """Return text that the console can write and that does not steer it."""
    plain = printable_line(text)
    if console.options.ascii_only:
        plain = plain.translate(_ASCII).encode("ascii", "replace").decode()
    return Text(plain, style)


def sizes_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of text, then numbers.

    Args:
        columns: heads; one that begins with ">" is of numbers.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for head in columns:
        right = head.startswith(">")
        table.add_column(
            head.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(shown(console, cell) for cell in row))
    return table


def _print_verdict(report: Report, console: Console) -> None:
    write(console, f"{report.bundle.name} on {report.device.model}, {report.target}", "bold")
    color = _COLORS[wording.tone(report.verdict)]
    write(console, f"verdict: {wording.verdict_words(report.verdict)}", f"bold {color}")
    write(console, report.reason)
    stamp = wording.provenance_stamp(report.device.provenance)
    if stamp:
        write(console, f"*** {stamp.upper()} ***", "bold yellow")
    console.print()


def _print_figures(report: Report, console: Console) -> None:
    rows = [
        (figure.name, f"{figure.value} {figure.unit}".strip(), figure.note)
        for figure in headline(report)
    ]
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(justify="right", overflow="fold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*(shown(console, cell) for cell in row))
    console.print(table)
    console.print()


def _print_memory(report: Report, console: Console) -> None:
    points = [(sample.clock_s, float(sample.resident_bytes)) for sample in report.samples]
    columns = min(console.width - _MARGIN, 100)
    if not points or columns < 16:
        return
    last = max([points[-1][0], *(phase.end_s for phase in report.phases)])
    high = max(value for _, value in points)
    values = resampled(points, last, columns)
    drawn = block_rows(values, high, rows=3, as_ascii=console.options.ascii_only)
    scales = (size_text(high), "", "0")
    for scale, row in zip(scales, drawn, strict=True):
        write(console, f"{scale:>{_MARGIN - 1}} {row}")
    names = [(printable_line(phase.name), phase.end_s) for phase in report.phases]
    if names:
        line = f"{'phases':>{_MARGIN - 1}} {ruler(names, last, columns)}"
        write(console, line.rstrip(), "dim")
    hidden = figures.is_emulated(report)
    over = wording.TIMES_HIDDEN if hidden else f"over {duration_text(last)}"
    write(console, f"{'':{_MARGIN}}resident memory; {over}", "dim")
    console.print()


def _print_ledger(report: Report, console: Console) -> None:
    ledger = report.ledger
    if ledger is None:
        return
    rows = (*figures.ledger_rows(report), *figures.total_rows(report))
    unit = byte_unit(row.measured_bytes for row in rows)
    cells = []
    for row in rows:
        text = ledger_text(row, unit)
        # The only mark of what went wrong that needs no color.
        within = "NO" if row.within is False else text.within
        cells.append(
            (text.part, text.kind, text.predicted, text.measured, text.difference, text.percent,
             within)
        )  # fmt: skip
    heads = ("part", "kind", f">predicted {unit.name}", ">measured", ">difference", "> ", "in band")
    console.print(sizes_table(console, heads, cells))
    off = [
        f"{row.part} by {(row.difference_bytes or 0) / 1e6:+,.2f} MB"
        for row in rows
        if row.within is False
    ]
    words = "as predicted" if ledger.passed else "NOT as predicted"
    words += f": {', '.join(off)}" if off else ""
    write(
        console,
        f"memory is {words}; a line may differ by {band_text(report)}, whichever is more",
        "" if ledger.passed else "bold red",
    )
    if uncounted := folios_text(report):
        write(console, uncounted, "dim")
    if report.android is not None:
        write(console, f"Android counts {android_text(report.android)}", "dim")
    console.print()


def _print_answers(report: Report, console: Console) -> None:
    answers = report.answers
    if answers is None:
        return
    words = "all agree" if answers.passed else "DIFFER"
    write(
        console,
        f"golden answers: {words}; {answers.steps} steps, largest error "
        f"{answers.largest_error:.3g} of {answers.tolerance:.3g} allowed, "
        f"near ties {answers.near_ties}",
        "" if answers.passed else "bold red",
    )
    for found in answers.differences[:_MOST_DIFFERENCES]:
        write(
            console,
            f"  {found.case}, step {found.step}: {found.what}: expected {found.expected}, "
            f"found {found.found}",
        )
    more = len(answers.differences) - _MOST_DIFFERENCES
    if more > 0:
        write(console, f"  and {more} more")
