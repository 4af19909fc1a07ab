"""Figures that follow from a report's fields: speeds, the peak, rows of the ledger.

The page, the terminal and the comparison all take them from here, so they agree. Times of an
emulator are no figures: they are None.
"""

from dataclasses import dataclass

from pocketlm.device_tests.device.facts import EMULATED
from pocketlm.device_tests.job.verdict import MEASURED
from pocketlm.device_tests.memory.values import END_OF_RUN, PartKind, Phase
from pocketlm.device_tests.profiling.document import Report, Step

UNATTRIBUTED = "unattributed"


@dataclass(frozen=True)
class Speeds:
    """How fast the run was; None where the run did not come that far.

    Attributes:
        first_token_s: time of the prompt, after which the first token is known.
        prefill_per_s, decode_per_s: tokens over time, in all.
        slowest_decode_s: time of the token that took longest.
    """

    first_token_s: float | None
    prefill_per_s: float | None
    decode_per_s: float | None
    slowest_decode_s: float | None


@dataclass(frozen=True)
class LedgerRow:
    """One row of the table of parts, the last of which may be what no line explains."""

    part: str
    kind: PartKind | None
    predicted_bytes: int | None
    measured_bytes: int
    within: bool | None
    arithmetic: str = ""

    @property
    def difference_bytes(self) -> int | None:
        """Measured less predicted."""
        if self.predicted_bytes is None:
            return None
        return self.measured_bytes - self.predicted_bytes

    @property
    def difference_ratio(self) -> float | None:
        """The difference over the prediction."""
        if not self.predicted_bytes or self.difference_bytes is None:
            return None
        return self.difference_bytes / self.predicted_bytes


def is_emulated(report: Report) -> bool:
    """Return whether times of this report say nothing of a device."""
    return report.device.provenance in EMULATED


def has_measured(report: Report) -> bool:
    """Return whether the run came to its end."""
    return report.verdict in MEASURED


def last_phase(report: Report) -> Phase | None:
    """Return the phase at whose end the parts of memory are shown."""
    ends = [phase for phase in report.phases if phase.name == END_OF_RUN]
    return next(iter((*ends, *report.phases[-1:])), None)


def peak_bytes(report: Report) -> int | None:
    """Return the most that was resident at any time, as far as anything saw it."""
    seen = [phase.peak_bytes for phase in report.phases]
    seen += [sample.resident_bytes for sample in report.samples]
    if report.ledger is not None:
        seen.append(report.ledger.measured_peak_bytes)
    return max(seen, default=None)


def speeds(report: Report) -> Speeds | None:
    """Return how fast the run was; None where its times are the emulator's.

    A call of one token is decoding; the calls before the first of these are the prompt.
    """
    if is_emulated(report):
        return None
    timed = [step for step in report.steps if step.wall_s > 0 and step.tokens > 0]
    decode = decode_steps(report)
    prompt = [step for step in timed if step.tokens > 1]
    opening = []
    for step in timed:
        if step.tokens == 1:
            break
        opening.append(step)
    return Speeds(
        first_token_s=sum(step.wall_s for step in opening) if opening else None,
        prefill_per_s=_per_s(prompt),
        decode_per_s=_per_s(decode),
        slowest_decode_s=max((step.wall_s for step in decode), default=None),
    )


def decode_steps(report: Report) -> tuple[Step, ...]:
    """Return the calls of one token that took any time."""
    return tuple(step for step in report.steps if step.tokens == 1 and step.wall_s > 0)


def load_s(report: Report) -> float | None:
    """Return how long loading took; None where that is the emulator's time, or it never ended."""
    return None if is_emulated(report) else report.load_s


def ledger_rows(report: Report) -> tuple[LedgerRow, ...]:
    """Return the ledger's lines, dirty parts first, larger ones first, then what none explains."""
    if report.ledger is None:
        return ()
    rows = [
        LedgerRow(
            line.part, line.kind, line.predicted_bytes, line.measured_bytes, line.within,
            line.arithmetic,
        )
        for line in report.ledger.lines
    ]  # fmt: skip
    rows.sort(key=lambda row: (row.kind != "dirty", -row.measured_bytes))
    rest = report.ledger.unattributed_bytes
    return (*rows, LedgerRow(UNATTRIBUTED, None, None, rest, None))


def total_rows(report: Report) -> tuple[LedgerRow, ...]:
    """Return what all rows add up to at the end, and the peak, which is of another moment."""
    if report.ledger is None:
        return ()
    rows = ledger_rows(report)
    predicted = [row.predicted_bytes for row in rows if row.part != UNATTRIBUTED]
    known = [size for size in predicted if size is not None]
    # A sum that leaves parts out is no prediction of the whole.
    whole = sum(known) if known and len(known) == len(predicted) else None
    measured = sum(row.measured_bytes for row in rows)
    ledger = report.ledger
    return (
        LedgerRow("all, at the end", None, whole, measured, None),
        LedgerRow(
            "peak, at any time", None, ledger.predicted_peak_bytes, ledger.measured_peak_bytes, None
        ),
    )


def _per_s(steps: list[Step] | tuple[Step, ...]) -> float | None:
    wall_s = sum(step.wall_s for step in steps)
    return sum(step.tokens for step in steps) / wall_s if wall_s > 0 else None
