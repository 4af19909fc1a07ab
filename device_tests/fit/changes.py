"""Changes that make a bundle fit: the price of each, and which are worth it."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Literal

from pocketlm.runtime_py.memory_inputs import MemoryInputs

FitStatus = Literal["fits", "tight", "will not fit"]
RANKS: dict[FitStatus, int] = {"fits": 0, "tight": 1, "will not fit": 2}


@dataclass(frozen=True, order=True)
class Price:
    """What a change costs whoever uses the model, the dearest first.

    Attributes:
        positions: of context that are given up.
        weight_bytes: that the recipe keeps less of the weights.
        kv_bytes: that a slot of the caches keeps less of keys and values.
        chunk_tokens: that a call prefills less.
        packed_cache: 1 for a file on the device as large as the weights, written in a first run.
    """

    positions: int
    weight_bytes: int
    kv_bytes: int
    chunk_tokens: int
    packed_cache: int


@dataclass(frozen=True)
class Change:
    """One way to make a bundle smaller.

    Attributes:
        what: as a builder asks for it: "--context 2048".
        saved_bytes: of the peak.
        saved_dirty_bytes: of what only swap or a kill frees.
        price: what it costs.
    """

    what: str
    saved_bytes: int
    saved_dirty_bytes: int
    status: FitStatus
    price: Price


def price_of(before: MemoryInputs, after: MemoryInputs, backend: str, packed: bool) -> Price:
    """Return what is given up from one bundle to another."""

    def given_up(size: Callable[[MemoryInputs], int]) -> int:
        return max(0, size(before) - size(after))

    def slot_bytes(inputs: MemoryInputs) -> int:
        caches = inputs.backends[backend].caches
        return sum(cache.slot_bytes for cache in caches)

    return Price(
        positions=given_up(lambda inputs: inputs.context_length),
        weight_bytes=given_up(lambda inputs: sum(t.size_bytes for t in inputs.tensors)),
        kv_bytes=given_up(slot_bytes),
        chunk_tokens=given_up(lambda inputs: inputs.prefill_chunk),
        packed_cache=int(packed),
    )


def cheapest(changes: Sequence[Change], now: FitStatus) -> tuple[Change, ...]:
    """Return what leads to a better status, the best first, and of equal ones the cheapest.

    Of two with the same status, one that costs nowhere less is left out. Where nothing leads to a
    better one, all are returned, most helpful first.
    """

    def saved(change: Change) -> int:
        return max(change.saved_bytes, change.saved_dirty_bytes)

    better = [change for change in changes if RANKS[change.status] < RANKS[now]]
    if not better:
        return tuple(sorted((c for c in changes if saved(c) > 0), key=saved, reverse=True))
    worth = [change for change in better if not _is_outdone(change, better)]
    return tuple(sorted(worth, key=lambda change: (RANKS[change.status], change.price)))


def _is_outdone(change: Change, others: Sequence[Change]) -> bool:
    """Say whether another leads to as good a status for less."""
    return any(
        RANKS[other.status] <= RANKS[change.status]
        and other.price != change.price
        and all(o <= c for o, c in zip(astuple(other.price), astuple(change.price), strict=True))
        for other in others
    )
