"""Predicts whether a bundle, built or only planned, fits a device."""

from collections.abc import Iterable
from dataclasses import dataclass

from pocketlm.device_tests.fit.changes import Change, FitStatus, Price, cheapest, price_of
from pocketlm.device_tests.fit.memory_budget import MemoryBudget
from pocketlm.device_tests.quantities import size_text
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_prediction import Positions, Prediction, full_context, predict

# Predictions are right within this much of a peak.
MARGIN_RATIO = 0.05


@dataclass(frozen=True)
class FitResult:
    """Whether it fits, with the arithmetic.

    Attributes:
        reasons: one sentence for each comparison that was made.
    """

    status: FitStatus
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """A bundle's backend against one device."""

    backend: str
    budget: MemoryBudget
    positions: Positions
    prediction: Prediction
    result: FitResult
    changes: tuple[Change, ...]


def compare_with_budget(prediction: Prediction, budget: MemoryBudget) -> FitResult:
    """Compare a prediction with what a device has."""
    dirty = int((1 + MARGIN_RATIO) * prediction.dirty_bytes)
    peak = int((1 + MARGIN_RATIO) * prediction.peak_bytes)
    reasons = [
        f"dirty memory: {size_text(prediction.dirty_bytes)} + {MARGIN_RATIO:.0%} margin = "
        f"{size_text(dirty)}; {size_text(budget.easy_bytes)} without memory pressure, "
        f"{size_text(budget.most_bytes)} at most ({budget.limits})"
    ]
    if dirty > budget.most_bytes:
        return FitResult("will not fit", (*reasons, "the system would kill it (out of memory)"))
    reasons.append(
        f"peak: {size_text(prediction.peak_bytes)} + {MARGIN_RATIO:.0%} margin = "
        f"{size_text(peak)}; {size_text(budget.available_bytes)} available"
    )
    if dirty > budget.easy_bytes:
        return FitResult("tight", (*reasons, "it would run, but the system kills other apps"))
    if peak > budget.available_bytes:
        kills = "may kill other apps while it loads, and " if budget.evicts else ""
        what = f"it would run, but the system {kills}drops file pages and reads them again"
        return FitResult("tight", (*reasons, what))
    return FitResult("fits", tuple(reasons))


# A way to ask for less, and what it leads to; None where it changes nothing.
Variant = tuple[str, MemoryInputs]


def fit(
    inputs: MemoryInputs,
    backend: str,
    budget: MemoryBudget,
    variants: Iterable[Variant] = (),
    *,
    tokens: int | None = None,
    packed_cache: bool = False,
) -> Fit:
    """Predict a bundle on a device.

    Args:
        variants: what else could be built.
        tokens: that the caches will hold; None is the whole context.
    """

    def predicted(source: MemoryInputs, packed: bool = packed_cache) -> Prediction:
        positions = positions_of(source, tokens)
        return predict(source, backend, positions, budget.architecture, packed_cache=packed)

    before = predicted(inputs)
    result = compare_with_budget(before, budget)
    changes = []
    if result.status != "fits":
        others = list(variants)
        can_map = backend in engines.packed_cache_names() and not packed_cache
        if can_map:
            others.append(("", inputs))
        for what, other in others:
            for packed in (False, True) if can_map else (False,):
                options = f"{what} --packed-cache".lstrip() if packed else what
                price = price_of(inputs, other, backend, packed)
                after = predicted(other, packed or packed_cache)
                changes.append(_change(options, price, before, after, budget))
    return Fit(
        backend,
        budget,
        positions_of(inputs, tokens),
        before,
        result,
        cheapest(changes, result.status),
    )


def positions_of(inputs: MemoryInputs, tokens: int | None) -> Positions:
    """Return how far a run goes: to the end of the context, or to so many tokens."""
    whole = full_context(inputs)
    if tokens is None or tokens >= whole.tokens:
        return whole
    assert isinstance(whole.rows, int)
    return Positions(tokens, min(tokens, whole.longest_call), min(tokens, whole.rows))


def _change(
    what: str, price: Price, before: Prediction, after: Prediction, budget: MemoryBudget
) -> Change:
    return Change(
        what,
        before.peak_bytes - after.peak_bytes,
        before.dirty_bytes - after.dirty_bytes,
        compare_with_budget(after, budget).status,
        price,
    )
