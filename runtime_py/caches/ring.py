"""Position p lives in slot p mod S, for ever: a new one overwrites the one S positions before.

docs/kv-cache.md has the proof that there are enough slots, and a worked example.
"""

from dataclasses import dataclass
from typing import ClassVar

from pocketlm.runtime_py.cache_layout import CacheLayout, Whole


def position_in_ring(slot: Whole, newest: Whole, capacity: int) -> Whole:
    """Return the newest position that is slot modulo capacity; negative if there is none yet."""
    position: Whole = newest - (newest - slot) % capacity
    return position


@dataclass(frozen=True)
class Ring(CacheLayout):
    """A layer with a window that keeps the newest S positions."""

    overwrites: ClassVar[bool] = True

    @staticmethod
    def slots(window: int | None, chunk: int, context_length: int) -> int:
        # One for each position that some query of a chunk can still see.
        return context_length if window is None else min(context_length, window + chunk - 1)

    def slot_of(self, position: Whole, newest: Whole) -> Whole:
        slot: Whole = position % self.capacity
        return slot

    def position_in(self, slot: Whole, newest: Whole) -> Whole:
        return position_in_ring(slot, newest, self.capacity)

    @property
    def rewind_tokens(self) -> int:
        return self.capacity - self.most_seen + 1

    def earliest_rewind(self, length: int) -> int:
        # Position length - S is the oldest one held. Slots of positions that are taken back are
        # read as the positions S before, which are then outside the window as well.
        return 0 if length <= self.capacity else length - self.rewind_tokens


KIND = Ring
