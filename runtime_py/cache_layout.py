"""What a kind of key/value cache says of its slots, without any tensor.

`runtime_py/caches/NAME.py` is kind NAME and offers one constant, KIND: a class of layouts. Plans,
masks, rewinding, manifests and predictions ask it; a backend adds how it writes and attends.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar


class Arithmetic(Protocol):
    """A whole number, or an array of them in NumPy or torch."""

    def __add__(self, other: Any, /) -> Any: ...

    def __sub__(self, other: Any, /) -> Any: ...

    def __mod__(self, other: Any, /) -> Any: ...


Whole = TypeVar("Whole", bound=Arithmetic)


@dataclass(frozen=True)
class CacheLayout(ABC):
    """The slots of one layer.

    Attributes:
        capacity: slots.
        window: keys that a query sees, its own included; None sees all.
        overwrites: whether slots are used again, so that old positions are lost.
    """

    capacity: int
    window: int | None

    overwrites: ClassVar[bool]

    @staticmethod
    @abstractmethod
    def slots(window: int | None, chunk: int, context_length: int) -> int:
        """Return the slots that a layer needs.

        Args:
            chunk: most tokens written at once, before the first of them attends.
        """

    @abstractmethod
    def slot_of(self, position: Whole, newest: Whole) -> Whole:
        """Return where a position is once `newest` is written, if it is still held.

        Backends trace it: plain arithmetic that an array understands.
        """

    @abstractmethod
    def position_in(self, slot: Whole, newest: Whole) -> Whole:
        """Return what a slot holds once `newest` is written; negative is empty. See `slot_of`."""

    @property
    @abstractmethod
    def rewind_tokens(self) -> int | None:
        """How far back is possible after any number of tokens; None is any distance."""

    @abstractmethod
    def earliest_rewind(self, length: int) -> int:
        """Return the least position above 0 to go back to, after at most `length` tokens.

        A query there and every later one finds what it has to see. 0 is always possible.
        """

    @property
    def most_seen(self) -> int:
        """Most keys that a query sees."""
        return self.capacity if self.window is None else self.window

    def can_rewind(self, length: int, target: int) -> bool:
        """Say whether what the token at `target` has to see is still there."""
        return target == 0 or target >= self.earliest_rewind(length)

    def held(self, length: int) -> list[int]:
        """Return the positions in the slots after `length` tokens, ascending."""
        found = (self.position_in(slot, length - 1) for slot in range(self.capacity))
        return sorted(position for position in found if position >= 0)

    def sees(self, query: int, position: int) -> bool:
        """Say whether a query attends to a position; negative positions are empty slots."""
        in_window = self.window is None or query - position < self.window
        return 0 <= position <= query and in_window

    def visible_slots(self, query: int, newest: int) -> list[int]:
        """Return the slots that a query attends to once `newest` is written.

        Where a kernel evicts after a call attended, this is so of the call's last query.
        """
        slots = range(self.capacity)
        return [slot for slot in slots if self.sees(query, self.position_in(slot, newest))]

    def touched_slots(self, length: int) -> int:
        """Return the slots ever written after `length` tokens: the most that a decode step reads.

        It is what is resident of a cache whose pages become real when they are written.
        """
        return min(length, self.capacity)
