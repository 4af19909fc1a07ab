"""What golden answers touch of an artifact: positions, slots, rows of the table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.manifest import CacheEntry


@dataclass(frozen=True)
class Coverage:
    """How much of an artifact the golden answers touch.

    Attributes:
        positions: different positions that a token stood at, of `context_length`.
        has_last_position: whether one stood at the very last.
        has_wraps: whether in every cache that overwrites slots one was used twice.
        has_window_edges: whether in every layer with a window a token was seen, and later not.
        table_rows: different token ids that were fed, of `vocab_size`.
    """

    context_length: int
    positions: int
    has_last_position: bool
    has_wraps: bool
    has_window_edges: bool
    vocab_size: int
    table_rows: int

    @property
    def not_touched(self) -> list[str]:
        """What no golden answer touches, as phrases."""
        found = []
        if not self.has_wraps:
            found.append("the wrap of a ring cache")
        if not self.has_window_edges:
            found.append("the far edge of a window")
        if not self.has_last_position:
            found.append("the last position of the context")
        if self.positions < self.context_length:
            missing = self.context_length - self.positions
            found.append(f"{missing:,} of {self.context_length:,} positions (rotary tables)")
        if self.table_rows < self.vocab_size:
            missing = self.vocab_size - self.table_rows
            found.append(f"{missing:,} of {self.vocab_size:,} rows of the embedding table as input")
        return found


def coverage_of(
    golden: Golden, caches: Sequence[CacheEntry], context_length: int, vocab_size: int
) -> Coverage:
    """Return what the cases of some golden answers touch."""
    sequences = list(_positions(golden))
    touched = set[int]().union(*sequences)
    wraps = [cache.capacity for cache in caches if cache.layout.overwrites]
    edges = [cache.window for cache in caches if cache.window and cache.window < context_length]
    return Coverage(
        context_length=context_length,
        positions=len(touched),
        has_last_position=context_length - 1 in touched,
        has_wraps=all(_reaches_back(sequences, slots) for slots in set(wraps)),
        has_window_edges=all(_reaches_back(sequences, window) for window in set(edges)),
        vocab_size=vocab_size,
        table_rows=len(set(_ids(golden))),
    )


def _positions(golden: Golden) -> Iterator[set[int]]:
    for case in golden.cases:
        yield set(range(len(case.prompt_ids) + len(case.fed_ids)))
    for placed in golden.placed_cases:
        yield {call.position + offset for call in placed.calls for offset in range(len(call.ids))}


def _reaches_back(sequences: list[set[int]], distance: int) -> bool:
    """Say whether two tokens of one sequence are that far apart."""
    return any(position - distance in sequence for sequence in sequences for position in sequence)


def _ids(golden: Golden) -> Iterator[int]:
    for case in golden.cases:
        yield from (*case.prompt_ids, *case.fed_ids)
    for placed in golden.placed_cases:
        for call in placed.calls:
            yield from call.ids
