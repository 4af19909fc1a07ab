"""Places for values that live for a while: who may share memory with whom."""

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 16


@dataclass(frozen=True)
class Lifetime:
    """A value that is written at step `first` and read until step `last`."""

    size_bytes: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Return the offset of each value, and the bytes of all together.

    Large values choose first, each the lowest place that no value alive at the same time takes.
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    total = 0
    for i in sorted(range(len(lifetimes)), key=lambda i: -lifetimes[i].size_bytes):
        taken = sorted(
            (offsets[j], offsets[j] + lifetimes[j].size_bytes)
            for j in placed
            if lifetimes[j].first <= lifetimes[i].last and lifetimes[i].first <= lifetimes[j].last
        )
        offset = 0
        for start, end in taken:
            if offset + lifetimes[i].size_bytes <= start:
                break
            offset = max(offset, _aligned(end))
        offsets[i] = offset
        placed.append(i)
        total = max(total, offset + lifetimes[i].size_bytes)
    return offsets, _aligned(total)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
