"""Key-value pairs of a GGUF file, read with their types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketlm.models.errors import ModelError, shown


@dataclass(frozen=True)
class Metadata:
    """What a file says of its model.

    Attributes:
        fields: key → field of the package gguf, decoded when it is asked for.
    """

    path: Path
    fields: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        return self.get_text("general.architecture")

    def find(self, key: str) -> Any:
        """Return a value; None if there is none."""
        field = self.fields.get(key)
        return None if field is None else field.contents()

    def own(self, key: str) -> str:
        """Return a key of the architecture in full."""
        return f"{self.architecture}.{key}"

    def get_int(self, key: str, default: int | None = None) -> int:
        """Return a whole number of 0 or more."""
        value = self.find(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or value < 0:
            raise self.error(key, value, "a whole number")
        return value

    def find_int(self, key: str) -> int | None:
        """Return a whole number of 0 or more; None if there is none."""
        return None if self.find(key) is None else self.get_int(key)

    def get_float(self, key: str, default: float | None = None) -> float:
        """Return a number, as few decimals as its float32 has."""
        value = self.find(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float):
            raise self.error(key, value, "a number")
        return float(str(np.float32(value)))

    def get_text(self, key: str) -> str:
        """Return a text."""
        value = self.find(key)
        if not isinstance(value, str):
            raise self.error(key, value, "a text")
        return value

    def get_list(self, key: str, kind: type) -> Sequence[Any]:
        """Return a list of one kind of value."""
        value = self.find(key)
        if not isinstance(value, list) or not all(type(one) is kind for one in value):
            raise self.error(key, value, f"a list of {kind.__name__}")
        return value

    def error(self, key: str, found: object, wanted: str) -> ModelError:
        """Make the error about one key."""
        return ModelError(
            f"{self.path}: {key} is {'missing' if found is None else shown(found)}, but {wanted} "
            "is needed; download the file again, or convert the model with a newer llama.cpp"
        )
