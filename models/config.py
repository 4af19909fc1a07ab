"""ModelConfig and LayerConfig: the numbers a Decoder is built from."""

from dataclasses import dataclass
from typing import Literal

from pocketlm.models.errors import ModelError

Activation = Literal["gelu_tanh", "silu"]


@dataclass(frozen=True)
class LayerConfig:
    """What may differ between the layers of one model.

    Attributes:
        window: how many keys a query sees, itself included; None sees all.
        rope_theta: base of the rotary frequencies.
        rope_factor: positions are divided by it (linear RoPE scaling).
    """

    window: int | None
    rope_theta: float
    rope_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ModelError(f"window={self.window}: a layer must see at least its own token")
        if self.rope_theta <= 0 or self.rope_factor <= 0:
            raise ModelError(
                f"rope_theta={self.rope_theta}, rope_factor={self.rope_factor}: "
                "both must be above zero"
            )


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
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
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
            "intermediate_size": self.intermediate_size,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "number of layers": len(self.layers),
        }
        for name, value in positive.items():
            if value < 1:
                raise ModelError(f"{self.model_type}: {name}={value} must be at least 1")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ModelError(
                f"{self.model_type}: {self.num_attention_heads} attention heads cannot share "
                f"{self.num_key_value_heads} key/value heads; the first must be a multiple"
            )
        if self.head_dim % 2:
            raise ModelError(f"{self.model_type}: head_dim={self.head_dim} must be even for RoPE")

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Distinct layer kinds in order of first use."""
        return tuple(dict.fromkeys(layer.window for layer in self.layers))

    @property
    def query_size(self) -> int:
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_size(self) -> int:
        return self.num_key_value_heads * self.head_dim
