"""Spends a budget of bytes over the schemes of all weights."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocketlm.edge_build.quantization.recipe import QuantScheme


@dataclass(frozen=True)
class Choice:
    """One scheme for one weight.

    Attributes:
        size_bytes: of its codes and scales.
        kl_nats: what the model loses by it.
    """

    scheme: QuantScheme
    size_bytes: int
    kl_nats: float


def spend(choices: Mapping[str, Sequence[Choice]], budget_bytes: int) -> dict[str, Choice]:
    """Return a choice for each weight, for the least sum of KL that the greedy rule finds.

    Losses of single weights add up well enough while they are small, so that no combinations are
    measured. A table may be most of a model: what is left when many small steps are taken would
    never pay for its one. So the weight whose sizes differ most is given each of its choices in
    turn, the others share what remains, and the least sum counts.

    Args:
        choices: of each weight, at least one.
        budget_bytes: at least the sum of the smallest.
    """
    largest = max(choices, key=lambda name: _range_bytes(choices[name]))
    others = {name: offered for name, offered in choices.items() if name != largest}
    needed = smallest_bytes(others)
    tried = [
        {largest: choice, **_spend_greedily(others, budget_bytes - choice.size_bytes)}
        for choice in choices[largest]
        if choice.size_bytes + needed <= budget_bytes
    ]
    assert tried, "the smallest choices are within the budget"
    best = min(tried, key=lambda one: (_sum_kl(one), _sum_bytes(one)))
    return {name: best[name] for name in choices}


def _spend_greedily(
    choices: Mapping[str, Sequence[Choice]], budget_bytes: int
) -> dict[str, Choice]:
    """Start with the smallest choices and take the step that wins most KL a byte while it fits."""
    hulls = {name: _hull(offered) for name, offered in choices.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    left = budget_bytes - _sum_bytes(chosen)
    heap = [(_step(hull, 0), name, 0) for name, hull in hulls.items() if len(hull) > 1]
    heapq.heapify(heap)
    while heap:
        _, name, at = heapq.heappop(heap)
        hull = hulls[name]
        cost = hull[at + 1].size_bytes - hull[at].size_bytes
        # What comes after a step that is too large is larger still.
        if cost > left:
            continue
        left -= cost
        chosen[name] = hull[at + 1]
        if at + 2 < len(hull):
            heapq.heappush(heap, (_step(hull, at + 1), name, at + 1))
    return chosen


def smallest_bytes(choices: Mapping[str, Sequence[Choice]]) -> int:
    """Return the bytes of the smallest choices."""
    return sum(min(choice.size_bytes for choice in offered) for offered in choices.values())


def _sum_bytes(chosen: Mapping[str, Choice]) -> int:
    return sum(choice.size_bytes for choice in chosen.values())


def _sum_kl(chosen: Mapping[str, Choice]) -> float:
    return sum(choice.kl_nats for choice in chosen.values())


def _range_bytes(offered: Sequence[Choice]) -> int:
    sizes = [choice.size_bytes for choice in offered]
    return max(sizes) - min(sizes)


def _step(hull: Sequence[Choice], at: int) -> float:
    """Return the change of KL a byte of the step after a choice, below zero."""
    before, after = hull[at], hull[at + 1]
    return (after.kl_nats - before.kl_nats) / (after.size_bytes - before.size_bytes)


def _hull(offered: Sequence[Choice]) -> list[Choice]:
    """Return the choices that no mixture of others beats, by size: each step wins less a byte."""
    hull: list[Choice] = []
    for choice in sorted(offered, key=lambda choice: (choice.size_bytes, choice.kl_nats)):
        if hull and choice.kl_nats >= hull[-1].kl_nats:
            continue
        hull.append(choice)
        while len(hull) > 2 and _step(hull, len(hull) - 3) > _step(hull, len(hull) - 2):
            del hull[-2]
    return hull
