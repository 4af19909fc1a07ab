"""What every reader may rely on of a manifest's `model`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocketlm.runtime_py.typed_json import read_as


@dataclass(frozen=True)
class LayerEntry:
    """What of a layer decides memory; see `LayerConfig`."""

    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    window: int | None
    rope_theta: float
    rope_factor: float
    rotary_dim: int | None = None
    kv_from: int | None = None

    @property
    def rotary(self) -> tuple[float, float, int]:
        """What decides its rotary tables."""
        return self.rope_theta, self.rope_factor, self.rotary_dim or self.head_dim


@dataclass(frozen=True)
class ModelEntry:
    """What of a model decides memory; see `ModelConfig`."""

    model_type: str
    vocab_size: int
    hidden_size: int
    attention_softcap: float | None
    layers: tuple[LayerEntry, ...]


def read_model(model: Mapping[str, Any]) -> ModelEntry:
    """Read a manifest's `model`.

    Raises:
        FieldError: a value is missing or of another type.
    """
    return read_as(ModelEntry, model)
