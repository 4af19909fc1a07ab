"""Typed reading of a published config.json, with errors that name the key.

Reads the keys that several families share: layer types and RoPE.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pocketlm.models.errors import ModelError, shown

LOCAL = "sliding_attention"
GLOBAL = "full_attention"

# Every size, position and id of a runtime is an int32, every other number a float32.
_LARGEST_INT = 2**31 - 1
_SMALLEST_FLOAT, _LARGEST_FLOAT = 2.0**-126, 2.0**127
# Eight times as many as the deepest published model has.
_MOST_LAYERS = 1024


@dataclass(frozen=True)
class PublishedConfig:
    """One config.json. A key that is absent or null takes the default that the caller gives.

    The defaults are those of the family's class in transformers: published files leave out what
    equals them (gemma-3-4b leaves out heads, head size and vocabulary).
    """

    model_type: str
    values: Mapping[str, Any]

    def get_int(self, key: str, default: int) -> int:
        """Return an integer that an int32 holds."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, "must be a whole number")
        if abs(value) > _LARGEST_INT:
            raise self.error(key, f"must be at most {_LARGEST_INT}")
        return value

    def layer_count(self, default: int) -> int:
        """Return num_hidden_layers, small enough to make a list of."""
        count = self.get_int("num_hidden_layers", default)
        if not 1 <= count <= _MOST_LAYERS:
            raise self.error("num_hidden_layers", f"must be 1 to {_MOST_LAYERS}")
        return count

    def get_float(self, key: str, default: float) -> float:
        """Return a number above zero that a float32 holds."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "must be a number above zero")
        # Infinity and NaN, which Python's JSON takes, are outside too.
        if not _SMALLEST_FLOAT <= value <= _LARGEST_FLOAT:
            raise self.error(key, "must be a number above zero that a float32 holds")
        return float(value)

    def get_optional_float(self, key: str, default: float | None) -> float | None:
        """Return a number above zero, or None where the file says null."""
        value = self.values.get(key, default)
        return None if value is None else self.get_float(key, value)

    def get_bool(self, key: str, default: bool) -> bool:
        """Return a boolean."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return a nested object, empty where absent."""
        value = self._value(key, {})
        if not isinstance(value, Mapping):
            raise self.error(key, "must be an object in braces")
        return value

    def require(self, key: str, allowed: object, why: str) -> None:
        """Refuse any value but the one allowed, absent or null."""
        if self._value(key, allowed) != allowed:
            raise self.error(key, f"{why}; only {allowed!r} can be built")

    def layer_types(self, derived: Sequence[str]) -> tuple[str, ...]:
        """Return each layer's type: the file's, else the derived ones."""
        value = self._value("layer_types", list(derived))
        if not isinstance(value, list):
            raise self.error("layer_types", "must be a list with one entry per layer")
        if len(value) != len(derived):
            raise ModelError(
                f"{self.model_type}: layer_types has {len(value)} entries, but "
                f"num_hidden_layers={len(derived)}; the two must agree"
            )
        for index, layer_type in enumerate(value):
            if layer_type not in (LOCAL, GLOBAL):
                raise ModelError(
                    f"{self.model_type}: layer_types[{index}]={shown(layer_type)} is not "
                    f"supported; use {LOCAL!r} or {GLOBAL!r}"
                )
        return tuple(value)

    def window(self, layer_types: Sequence[str], default: int) -> int | None:
        """Return the window of the local layers, None where no layer is local."""
        if LOCAL not in layer_types:
            return None
        if "sliding_window" in self.values and self.values["sliding_window"] is None:
            raise self.error("sliding_window", f"there are {LOCAL} layers; give their window")
        return self.get_int("sliding_window", default)

    def flat_rope(self) -> tuple[float, float]:
        """Return base and linear factor of a family with one RoPE, old keys or new."""
        # An older rope_scaling replaces rope_parameters, as transformers 5.23 does.
        values = self.mapping("rope_scaling") or self.mapping("rope_parameters")
        if LOCAL in values or GLOBAL in values:
            raise self.error("rope_parameters", "this family has one RoPE for all layers")
        return self.rope("RoPE", values, self.get_float("rope_theta", 10_000.0))

    def rope(
        self, key: str, values: Mapping[str, Any], default_theta: float
    ) -> tuple[float, float]:
        """Return base and linear factor of one RoPE description.

        Args:
            key: what to call it in an error.
            values: rope_theta, rope_type (or the older "type"), factor.
            default_theta: base where `values` has none.
        """
        description = PublishedConfig(f"{self.model_type}: {key}", values)
        rope_type = values.get("rope_type") or values.get("type") or "default"
        if rope_type not in ("default", "linear"):
            raise ModelError(
                f"{self.model_type}: {key} has rope_type {shown(rope_type)}; only 'default' and "
                "'linear' are supported. Remove it from config.json to build for the context "
                "length that the model was trained for"
            )
        if values.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise description.error("partial_rotary_factor", "partial rotation is not supported")
        theta = description.get_float("rope_theta", default_theta)
        if rope_type == "default":
            return theta, 1.0
        if "factor" not in values:
            raise description.error("factor", "linear RoPE scaling needs a factor")
        return theta, description.get_float("factor", 1.0)

    def error(self, key: str, why: str) -> ModelError:
        """Make the error about one key."""
        found = shown(self.values[key]) if key in self.values else "nothing"
        return ModelError(f"{self.model_type}: config.json has {key}={found}: {why}")

    def _value(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        return default if value is None else value
