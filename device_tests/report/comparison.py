"""Two reports side by side: what differs in what was run, then in memory and times.

Times are compared only where both are of a real device, or both of this computer: an emulator's
say nothing, and a phone's are not to be held against a computer's.
"""

import json
from dataclasses import asdict, dataclass, field

from pocketlm.device_tests.job.verdict import Verdict
from pocketlm.device_tests.memory.values import END_OF_RUN, PartKind
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.figures import (
    UNATTRIBUTED,
    Speeds,
    has_measured,
    is_emulated,
    peak_bytes,
    speeds,
)
from pocketlm.device_tests.quantities import NOTHING
from pocketlm.device_tests.report.facts_shown import fact_lists
from pocketlm.device_tests.report.wording import TIMES_HIDDEN, verdict_words

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FactChange:
    """One fact that differs.

    Attributes:
        about: "bundle", "device" or "run".
    """

    about: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class SizeChange:
    """One size, of a part of memory or of all; None where that report has none.

    Attributes:
        kind: of a part; None for other sizes.
    """

    name: str
    kind: PartKind | None
    before_bytes: int | None
    after_bytes: int | None
    difference_bytes: int | None
    difference_ratio: float | None


@dataclass(frozen=True)
class TimeChange:
    """One duration or rate.

    Attributes:
        unit: "s" or "tokens/s".
    """

    name: str
    unit: str
    before: float | None
    after: float | None
    difference_ratio: float | None


@dataclass(frozen=True)
class Comparison:
    """What changed between two runs.

    Attributes:
        facts: what differs in what was run; figures follow from all of it together.
        notes: what to know before reading a figure.
        phase: at whose end both are compared: the one of the ledger, or the last that came to its
            end in both; None where there is none.
        sizes: the peak at any time first; then those at the end of that phase.
        parts: at the end of that phase, what changed most first.
        times: empty where times must not be compared; a note says why.
    """

    before_verdict: Verdict
    after_verdict: Verdict
    facts: tuple[FactChange, ...]
    notes: tuple[str, ...]
    phase: str | None
    sizes: tuple[SizeChange, ...]
    parts: tuple[SizeChange, ...]
    times: tuple[TimeChange, ...]
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"


def compare(before: Report, after: Report) -> Comparison:
    """Return what changed from one run to another."""
    phase = _common_phase(before, after)
    why_no_times = _why_no_times(before, after)
    notes = [*_notes_of(before, "before"), *_notes_of(after, "after")]
    if why_no_times:
        notes.append(why_no_times)
    if phase is None:
        notes.append("no phase came to its end in both: parts of memory are not compared")
    return Comparison(
        before_verdict=before.verdict,
        after_verdict=after.verdict,
        facts=_fact_changes(before, after),
        notes=tuple(notes),
        phase=phase,
        sizes=_sizes(before, after, phase),
        parts=_parts(before, after, phase),
        times=() if why_no_times else _times(before, after),
    )


def _fact_changes(before: Report, after: Report) -> tuple[FactChange, ...]:
    """Return the facts that differ, by name: not every report has every fact."""
    was, is_now = _lasting_facts(before), _lasting_facts(after)
    return tuple(
        FactChange(*key, was.get(key, NOTHING), is_now.get(key, NOTHING))
        for key in {**was, **is_now}
        if was.get(key) != is_now.get(key)
    )


def _lasting_facts(report: Report) -> dict[tuple[str, str], str]:
    return {
        (found.about, fact.name): fact.text
        for found in fact_lists(report)
        for fact in found.facts
        if not fact.passing
    }


def _notes_of(report: Report, which: str) -> list[str]:
    words = verdict_words(report.verdict)
    if not has_measured(report):
        return [f"{which}: {words}; its figures are of what was seen before that"]
    if report.verdict == "under_pressure":
        return [f"{which}: {words}; its sizes are too small"]
    if report.verdict == "throttled":
        return [f"{which}: {words}; its times are too long"]
    if report.verdict == "wrong_answers":
        return [f"{which}: {words}; it did not compute what the bundle says"]
    return []


def _why_no_times(before: Report, after: Report) -> str:
    if is_emulated(before) or is_emulated(after):
        return TIMES_HIDDEN
    if before.device.provenance != after.device.provenance:
        return (
            f"times are not compared: before is of provenance {before.device.provenance}, "
            f"after of {after.device.provenance}"
        )
    return ""


def _common_phase(before: Report, after: Report) -> str | None:
    """Return the phase that reports draw their parts at; before it, the last that both reached."""
    reached = {phase.name for phase in after.phases}
    shared = [phase for phase in before.phases if phase.name in reached]
    if any(phase.name == END_OF_RUN for phase in shared):
        return END_OF_RUN
    return max(shared, key=lambda phase: phase.end_s).name if shared else None


def _sizes(before: Report, after: Report, phase: str | None) -> tuple[SizeChange, ...]:
    changes = [_size_change("peak", None, peak_bytes(before), peak_bytes(after))]
    ends = [[p for p in report.phases if p.name == phase] for report in (before, after)]
    if all(ends):
        was, is_now = (found[-1] for found in ends)
        changes += [
            _size_change("resident", None, was.resident_bytes, is_now.resident_bytes),
            _size_change("dirty", None, was.dirty_bytes, is_now.dirty_bytes),
            _size_change("clean", None, was.clean_bytes, is_now.clean_bytes),
            _size_change("in swap", None, was.swap_bytes, is_now.swap_bytes),
        ]
    return tuple(changes)


def _parts(before: Report, after: Report, phase: str | None) -> tuple[SizeChange, ...]:
    was, is_now = _part_sizes(before, phase), _part_sizes(after, phase)
    changes = [
        _size_change(part, kind, was.get((part, kind)), is_now.get((part, kind)))
        for part, kind in {**was, **is_now}
    ]
    # What changed most stands first; what nothing explains stands last.
    return tuple(
        sorted(
            changes,
            key=lambda change: (
                change.name == UNATTRIBUTED,
                -abs((change.after_bytes or 0) - (change.before_bytes or 0)),
                change.name,
            ),
        )
    )


def _part_sizes(report: Report, phase: str | None) -> dict[tuple[str, PartKind], int]:
    sizes: dict[tuple[str, PartKind], int] = {}
    found = [p for p in report.phases if p.name == phase]
    for part in found[-1].parts if found else ():
        key = (part.part, part.kind)
        sizes[key] = sizes.get(key, 0) + part.resident_bytes
    return sizes


def _size_change(
    name: str, kind: PartKind | None, before: int | None, after: int | None
) -> SizeChange:
    if before is None or after is None:
        return SizeChange(name, kind, before, after, None, None)
    return SizeChange(name, kind, before, after, after - before, _ratio(before, after))


def _times(before: Report, after: Report) -> tuple[TimeChange, ...]:
    was, is_now = speeds(before) or _NO_SPEEDS, speeds(after) or _NO_SPEEDS
    return (
        _time_change("load", "s", before.load_s, after.load_s),
        _time_change("first token", "s", was.first_token_s, is_now.first_token_s),
        _time_change("prefill", "tokens/s", was.prefill_per_s, is_now.prefill_per_s),
        _time_change("decode", "tokens/s", was.decode_per_s, is_now.decode_per_s),
    )


_NO_SPEEDS = Speeds(None, None, None, None)


def _time_change(name: str, unit: str, before: float | None, after: float | None) -> TimeChange:
    known = before is not None and after is not None
    return TimeChange(name, unit, before, after, _ratio(before, after) if known else None)


def _ratio(before: float | None, after: float | None) -> float | None:
    return (after - before) / before if before and after is not None else None
