"""What guesses tokens: a text's own repetitions, or a smaller model."""

from collections.abc import Sequence
from typing import Protocol


class Drafter(Protocol):
    """Guesses what comes next."""

    @property
    def price(self) -> float:
        """What guessing a token costs, in decode steps of the model that checks it."""
        ...

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        """Return at most so many tokens that may follow.

        Args:
            tokens: all so far, prompt included; those of the last call and more, or others.
            most: 1 or more.
        """
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...
