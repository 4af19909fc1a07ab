"""ModelConfig and LayerConfig: the numbers a Decoder is built from."""

from dataclasses import dataclass
from typing import Literal

from pocketlm.models.errors import ModelError

Activation = Literal["gelu_tanh", "silu"]


@dataclass(frozen=True)
class Rotary:
    """How positions turn the channels of a head.

    Attributes:
        theta: base of the frequencies.
        factor: positions are divided by it (linear RoPE scaling).
        dim: channels of a head that turn, from the first on; the others stay as they are.
    """

    theta: float
    factor: float
    dim: int


@dataclass(frozen=True)
class LayerConfig:
    """What may differ between the layers of one model, under Hugging Face's field names.

    Attributes:
        window: how many keys a query sees, itself included; None sees all.
        rope_theta: base of the rotary frequencies.
        rope_factor: positions are divided by it (linear RoPE scaling).
        rotary_dim: channels of a head that are rotated, from the first on; None rotates all.
        kv_from: the earlier layer whose keys and values this one reads; None computes its own.
    """

    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    window: int | None
    rope_theta: float
    rope_factor: float = 1.0
    rotary_dim: int | None = None
    kv_from: int | None = None

    def __post_init__(self) -> None:
        positive = {
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate_size,
        }
        for name, value in positive.items():
            if value < 1:
                raise ModelError(f"{name}={value} must be at least 1")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ModelError(
                f"{self.num_attention_heads} attention heads cannot share "
                f"{self.num_key_value_heads} key/value heads; the first must be a multiple"
            )
        if self.head_dim % 2:
            raise ModelError(f"head_dim={self.head_dim} must be even for RoPE")
        if self.window is not None and self.window < 1:
            raise ModelError(f"window={self.window}: a layer must see at least its own token")
        if self.rope_theta <= 0 or self.rope_factor <= 0:
            raise ModelError(
                f"rope_theta={self.rope_theta}, rope_factor={self.rope_factor}: "
                "both must be above zero"
            )
        if not 2 <= self.rotary.dim <= self.head_dim or self.rotary.dim % 2:
            raise ModelError(
                f"rotary_dim={self.rotary_dim}: a head has {self.head_dim} channels; give an even "
                "number of them, 2 or more"
            )

    @property
    def rotary(self) -> Rotary:
        dim = self.head_dim if self.rotary_dim is None else self.rotary_dim
        return Rotary(self.rope_theta, self.rope_factor, dim)

    @property
    def query_size(self) -> int:
        """Columns of all heads' queries together."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_size(self) -> int:
        """Columns of all heads' keys together, and of their values."""
        return self.num_key_value_heads * self.head_dim


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only language model in numbers, under Hugging Face's field names.

    Attributes:
        attention_scale: multiplies query · key.
        norm_weight_offset: added to every stored RMSNorm weight (Gemma stores w and applies 1 + w).
        sandwich_norms: attention and MLP outputs are normalized too, before they are added.
        query_key_norm: RMSNorm over each head of queries and keys, before rotation.
        embedding_scale: multiplies embedding rows; exact in float32, never rounded to bf16.
        attention_softcap, logits_softcap: cap * tanh(x / cap) on scores and on logits.
        max_position_embeddings: the longest context the checkpoint was made for.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    layers: tuple[LayerConfig, ...]
    rms_norm_eps: float
    max_position_embeddings: int
    attention_scale: float
    activation: Activation
    norm_weight_offset: float = 0.0
    sandwich_norms: bool = False
    query_key_norm: bool = False
    embedding_scale: float = 1.0
    attention_softcap: float | None = None
    logits_softcap: float | None = None
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        positive = {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "max_position_embeddings": self.max_position_embeddings,
            "number of layers": len(self.layers),
        }
        for name, value in positive.items():
            if value < 1:
                raise ModelError(f"{self.model_type}: {name}={value} must be at least 1")
        for index in range(len(self.layers)):
            self._check_kv_from(index)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Distinct layer kinds in order of first use."""
        return tuple(dict.fromkeys(layer.window for layer in self.layers))

    @property
    def rotaries(self) -> tuple[Rotary, ...]:
        """Distinct rotations in order of first use."""
        return tuple(dict.fromkeys(layer.rotary for layer in self.layers))

    @property
    def cached_layers(self) -> tuple[int, ...]:
        """The layers that compute keys and values of their own, so that each has a cache."""
        return tuple(i for i, layer in enumerate(self.layers) if layer.kv_from is None)

    @property
    def shares_caches(self) -> bool:
        """Whether a layer reads the keys and values of another."""
        return len(self.cached_layers) < self.num_layers

    def cache_of(self, layer: int) -> int:
        """Return which of the caches a layer reads, counted over `cached_layers`."""
        source = self.layers[layer].kv_from
        return self.cached_layers.index(layer if source is None else source)

    def _check_kv_from(self, index: int) -> None:
        layer = self.layers[index]
        if layer.kv_from is None:
            return
        prefix = f"{self.model_type}: layers[{index}].kv_from={layer.kv_from}"
        if not 0 <= layer.kv_from < index or self.layers[layer.kv_from].kv_from is not None:
            raise ModelError(
                f"{prefix}: must be an earlier layer that has keys and values of its own"
            )
        source = self.layers[layer.kv_from]
        pairs = {
            "window": (layer.window, source.window),
            "num_key_value_heads": (layer.num_key_value_heads, source.num_key_value_heads),
            "head_dim": (layer.head_dim, source.head_dim),
            "rotary": (layer.rotary, source.rotary),
        }
        for name, (own, theirs) in pairs.items():
            if own != theirs:
                raise ModelError(
                    f"{prefix}: has {name}={own}, but that layer has {theirs}; the two must agree"
                )
