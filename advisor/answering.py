"""What was planned and measured → the advice: who is chosen, why others lost, what to type."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pocketlm.advisor.advice import Advice, Compared
from pocketlm.advisor.choosing import Figures, Objective, Standing, choose, nearest
from pocketlm.advisor.limits import Limits
from pocketlm.advisor.planning import Planned
from pocketlm.advisor.question import Question
from pocketlm.advisor.record import Record


def answer(
    question: Question,
    planned: Sequence[Planned],
    records: Mapping[str, Record],
    limits: Limits,
    tokens: int,
) -> Advice:
    """Choose among the candidates that were measured.

    Args:
        records: by the key of a task.
        tokens: that each was measured on.
    """
    objective = Objective(limits.has_memory_limit, limits.least_agreement)
    found = [(one, records[one.task.key]) for one in planned if one.task and one.is_measured]
    figures = [_figures(one, record) for one, record in found]
    standings = zip(found, choose(figures, objective), strict=True)
    compared = [_measured(*pair, standing) for pair, standing in standings]
    compared += [_unmeasured(one) for one in planned if not one.is_measured]
    compared.sort(key=_shown_order)
    chosen = next((one for one in compared if one.status == "chosen"), None)
    return Advice(
        question.checkpoint,
        str(question.text),
        tokens,
        objective.rule,
        tuple(compared),
        None if chosen is None else build_command(question, chosen),
        _remedy(figures, compared) if chosen is None else None,
        tuple(_notes(limits)),
    )


def build_command(question: Question, chosen: Compared) -> str:
    """Return what to type for the bundle of a candidate."""
    name = Path(question.checkpoint).stem
    words = ["pocketlm", "build", question.checkpoint]
    words += ["--out", f"{name}-{Path(chosen.recipe).stem}", "--backend", chosen.backend]
    words += ["--recipe", chosen.recipe]
    if chosen.method is not None:
        words += ["--method", chosen.method]
    if chosen.calibrates and question.calibration_text is not None:
        words += ["--calibrate", str(question.calibration_text)]
    if question.context_length is not None:
        words += ["--context", str(question.context_length)]
    return shlex.join(words)


def _figures(one: Planned, record: Record) -> Figures:
    assert one.memory is not None, "predicted before it was measured"
    return Figures(
        one.candidate.name,
        one.memory.peak_bytes,
        record.kl_nats,
        record.kl_error_nats,
        record.agreement,
        record.speed.decode_tokens_per_s,
        one.memory.status == "tight",
    )


def _measured(one: Planned, record: Record, standing: Standing) -> Compared:
    return replace(
        _unmeasured(one),
        status=standing.status,
        reason=standing.reason,
        is_dominated=standing.is_dominated,
        record=record,
    )


def _unmeasured(one: Planned) -> Compared:
    candidate, memory = one.candidate, one.memory
    return Compared(
        candidate.name,
        candidate.recipe,
        candidate.method,
        candidate.backend,
        one.task is not None and one.task.calibrates,
        "cannot be built" if memory is None else "does not fit",
        one.reason if memory is None else memory.reason,
        memory=memory,
    )


def _shown_order(one: Compared) -> tuple[bool, bool, int, float, str]:
    """Measured ones first, then by memory."""
    kl_nats = 0.0 if one.record is None else one.record.kl_nats
    size = 0 if one.memory is None else one.memory.peak_bytes
    return (one.record is None, one.memory is None, size, kl_nats, one.name)


def _remedy(figures: Sequence[Figures], compared: Sequence[Compared]) -> str:
    """Say what to change where none agrees enough."""
    best = nearest(figures)
    # Rounded down, so that it is enough.
    lower = f"--least-agreement {int(1000 * best.agreement) / 1000:g}"
    others = sum(one.status == "does not fit" for one in compared)
    more = f"more memory ({others} candidates did not fit)" if others else "closer --candidates"
    return (
        f"no candidate agrees enough; the nearest is {best.name} with "
        f"{100 * best.agreement:.1f} %; give {lower}, or {more}"
    )


def _notes(limits: Limits) -> list[str]:
    if limits.has_memory_limit or limits.least_agreement is not None:
        return []
    return [
        "no limit was given, so the closest is named; give --ram, --device or --least-agreement"
    ]
