"""The newest positions side by side from slot 0; when they fill it, the oldest go and all move up.

So ONNX Runtime's GroupQueryAttention keeps a layer with `sliding_window_cache`: it evicts
S - W + 1 rows at once, and which are left follows from the number of tokens alone.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from pocketlm.runtime_py.cache_layout import CacheLayout, Whole
from pocketlm.runtime_py.caches.ring import Ring


@dataclass(frozen=True)
class Windowed(CacheLayout):
    """A layer with a window that keeps at least that, and evicts in groups."""

    overwrites: ClassVar[bool] = True

    @staticmethod
    def slots(window: int | None, chunk: int, context_length: int) -> int:
        return Ring.slots(window, chunk, context_length)

    def slot_of(self, position: Whole, newest: Whole) -> Whole:
        slot: Whole = position - self.evicted(newest + 1)
        return slot

    def position_in(self, slot: Whole, newest: Whole) -> Whole:
        position = slot + self.evicted(newest + 1)
        # Behind the newest there are old rows, or nothing.
        found: Whole = position - (position > newest) * (position + 1)
        return found

    @property
    def rewind_tokens(self) -> int:
        # What was just evicted leaves no room.
        return 0

    def earliest_rewind(self, length: int) -> int:
        # Rows that moved cannot move back: only as far as no fewer were evicted.
        evicted = self.evicted(length)
        return 0 if evicted == 0 else evicted + self.most_seen

    def evicted(self, length: Any) -> Any:
        """Return the positions that are gone after `length` tokens: all before this one."""
        at_once = self.capacity - self.most_seen + 1
        too_many = length - self.capacity
        return (too_many > 0) * (at_once * -(-too_many // at_once))


KIND = Windowed
