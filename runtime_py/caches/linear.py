"""Every position has a slot of its own: a ring as long as the context, which never wraps."""

from dataclasses import dataclass
from typing import ClassVar

from pocketlm.runtime_py.cache_layout import CacheLayout, Whole
from pocketlm.runtime_py.caches.ring import position_in_ring


@dataclass(frozen=True)
class Linear(CacheLayout):
    """A layer that keeps every position."""

    overwrites: ClassVar[bool] = False

    @staticmethod
    def slots(window: int | None, chunk: int, context_length: int) -> int:
        return context_length

    def slot_of(self, position: Whole, newest: Whole) -> Whole:
        return position

    def position_in(self, slot: Whole, newest: Whole) -> Whole:
        return position_in_ring(slot, newest, self.capacity)

    @property
    def rewind_tokens(self) -> None:
        return None

    def earliest_rewind(self, length: int) -> int:
        return 0


KIND = Linear
