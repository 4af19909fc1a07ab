"""Something that is closed at the end of a `with` block, however that ends."""

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Offers `with` to a class that has `close`."""

    @abstractmethod
    def close(self) -> None:
        """Release what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()
