"""The ledger as text, row by row, as the page and the terminal show it."""

from dataclasses import dataclass

from pocketlm.device_tests.memory.values import LedgerLine
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.figures import LedgerRow
from pocketlm.device_tests.quantities import NOTHING, ByteUnit, percent_text, share_text, size_text


@dataclass(frozen=True)
class LedgerText:
    """One row in the unit of its table."""

    part: str
    kind: str
    predicted: str
    measured: str
    difference: str
    percent: str
    within: str
    arithmetic: str


def ledger_text(row: LedgerRow, unit: ByteUnit) -> LedgerText:
    """Return a row as text."""
    difference, ratio = row.difference_bytes, row.difference_ratio
    return LedgerText(
        part=row.part,
        kind=row.kind or "",
        predicted=NOTHING if row.predicted_bytes is None else unit.number(row.predicted_bytes),
        measured=unit.number(row.measured_bytes),
        difference=NOTHING if difference is None else unit.signed_number(difference),
        percent="" if ratio is None else percent_text(ratio),
        within={True: "yes", False: "no", None: NOTHING}[row.within],
        arithmetic=row.arithmetic,
    )


def folios_text(report: Report) -> str:
    """Return why clean lines do not count as differences; empty where they all count."""
    ledger = report.ledger
    if ledger is None or not any(_does_not_count(line) for line in ledger.lines):
        return ""
    return (
        f"clean lines above their prediction do not count: Linux {report.device.kernel} maps "
        "whole folios of files, as large as the kernel once cached them"
    )


def _does_not_count(line: LedgerLine) -> bool:
    return line.within is None and line.predicted_bytes is not None


def band_text(report: Report) -> str:
    """Return the error that a line may have: "5.0 % or 2.0 MB"; empty where there is no ledger."""
    if report.ledger is None:
        return ""
    return f"{share_text(report.ledger.band_ratio)} or {size_text(report.ledger.band_bytes)}"
