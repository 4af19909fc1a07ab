"""The parts of a decoder layer, and the attention protocol that every cache kind implements.

Caches, quantization and backends replace parts of it by name.
Shape letters: B batch, T new tokens, S key slots, H query heads, K key/value heads, D head size,
E hidden size, V vocabulary.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketlm.models.config import Activation, ModelConfig, Rotary
from pocketlm.models.vector_functions import initialize_vector_functions

initialize_vector_functions()


class AttentionStep(Protocol):
    """Attention of one step: the new tokens' queries against everything that they may see.

    An implementation rotates queries and keys itself, because some runtimes rotate inside their
    attention kernel.
    """

    def attend(self, layer: int, query: Tensor, key: Tensor | None, value: Tensor | None) -> Tensor:
        """Attend in one layer.

        Args:
            layer: index of the layer, from 0.
            query: [B, T, H, D] before rotation.
            key, value: [B, T, K, D]; key before rotation. None in a layer that reads those of an
                earlier one (`LayerConfig.kv_from`), which attended before in this step.

        Returns:
            [B, T, H, D].
        """
        ...


class RMSNorm(nn.Module):
    """x / rms(x) * weight in float32; the weight already holds any offset (Gemma: 1 + w)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.size = size
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        mean_square = x.float().pow(2).mean(-1, keepdim=True)
        return (x.float() * torch.rsqrt(mean_square + self.eps) * self.weight.float()).to(x.dtype)


class MLP(nn.Module):
    """down(activation(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.activation: Activation = config.activation
        hidden, intermediate = config.hidden_size, config.layers[layer].intermediate_size
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gated(self.gate_proj(x)) * self.up_proj(x))

    def gated(self, gate: Tensor) -> Tensor:
        """Return the activation of the gate's products."""
        if self.activation == "gelu_tanh":
            return functional.gelu(gate, approximate="tanh")
        return functional.silu(gate)


class Attention(nn.Module):
    """Projections and query/key norms; the step decides what is visible and how it is stored.

    A layer that reads another's keys and values has neither projections nor a norm for them.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        settings = config.layers[layer]
        hidden, self.head_dim = config.hidden_size, settings.head_dim
        self.q_proj = nn.Linear(hidden, settings.query_size, bias=False)
        self.k_proj: nn.Linear | None = None
        self.v_proj: nn.Linear | None = None
        if settings.kv_from is None:
            self.k_proj = nn.Linear(hidden, settings.key_value_size, bias=False)
            self.v_proj = nn.Linear(hidden, settings.key_value_size, bias=False)
        self.o_proj = nn.Linear(settings.query_size, hidden, bias=False)
        self.q_norm: RMSNorm | None = None
        self.k_norm: RMSNorm | None = None
        if config.query_key_norm:
            self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
            if settings.kv_from is None:
                self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps)

    def forward(self, x: Tensor, step: AttentionStep) -> Tensor:
        query = self._heads(self.q_proj, x)  # [B, T, H, D]
        key = value = None
        if self.k_proj is not None and self.v_proj is not None:
            key, value = self._heads(self.k_proj, x), self._heads(self.v_proj, x)  # [B, T, K, D]
        if self.q_norm is not None:
            query = self.q_norm(query)
        if self.k_norm is not None and key is not None:
            key = self.k_norm(key)
        return self.o_proj(step.attend(self.layer, query, key, value).flatten(-2))

    def _heads(self, projection: nn.Linear, x: Tensor) -> Tensor:
        return projection(x).unflatten(-1, (-1, self.head_dim))


class DecoderLayer(nn.Module):
    """Attention and MLP with residuals; pre-norm, or sandwich norms where the config says so."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.attention_norm = RMSNorm(size, eps)
        self.attention = Attention(config, layer)
        self.post_attention_norm = RMSNorm(size, eps) if config.sandwich_norms else None
        self.mlp_norm = RMSNorm(size, eps)
        self.mlp = MLP(config, layer)
        self.post_mlp_norm = RMSNorm(size, eps) if config.sandwich_norms else None

    def forward(self, x: Tensor, step: AttentionStep) -> Tensor:
        attended = self.attention(self.attention_norm(x), step)
        if self.post_attention_norm is not None:
            attended = self.post_attention_norm(attended)
        x = x + attended
        transformed = self.mlp(self.mlp_norm(x))
        if self.post_mlp_norm is not None:
            transformed = self.post_mlp_norm(transformed)
        return x + transformed


def inverse_frequencies(rotary: Rotary) -> Tensor:
    """Return the rotary angle per position for each pair of channels, [dim / 2] float32."""
    exponents = torch.arange(0, rotary.dim, 2, dtype=torch.int64).float() / rotary.dim
    return 1.0 / (rotary.theta**exponents) / rotary.factor


def rotary_tables(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, each [T, dim / 2] float32, of positions [T].

    The angle is rounded to float32, as published models round it; its cosine is not rounded twice.
    """
    angles = (positions.float().unsqueeze(-1) * frequencies).double()
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate channel i against channel i + dim / 2 (the Hugging Face half-split convention).

    Args:
        x: [B, T, heads, D]; channels from dim on stay as they are.
        cosines, sines: [T, dim / 2].
    """
    half = cosines.shape[-1]
    first, second, rest = x.split((half, half, x.shape[-1] - 2 * half), dim=-1)
    cosines, sines = cosines.unsqueeze(-2), sines.unsqueeze(-2)  # [T, 1, dim / 2]
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.cat((*turned, rest), dim=-1)


def visible(query_positions: Tensor, key_positions: Tensor, window: int | None) -> Tensor:
    """Return the bool mask [T, S]: causal, and within the window; negative keys are empty slots."""
    distance = query_positions.unsqueeze(-1) - key_positions.unsqueeze(0)
    mask = torch.bitwise_and(distance >= 0, key_positions.unsqueeze(0) >= 0)
    return mask if window is None else torch.bitwise_and(mask, distance < window)


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, softcap: float | None
) -> Tensor:
    """Grouped-query attention in plain operations, softmax in float32.

    Args:
        query: [B, T, H, D] rotated.
        key, value: [B, S, K, D]; key rotated.
        mask: [T, S] bool, True where visible; or float32, added to scores.
        softcap: cap * tanh(score / cap) before the mask.

    Returns:
        [B, T, H, D].
    """
    heads, shared = query.shape[2], key.shape[2]
    grouped = query.unflatten(2, (shared, heads // shared))  # [B, T, K, H / K, D]
    scores = torch.einsum("btkgd,bskd->bkgts", grouped, key) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask.dtype == torch.bool:
        scores = scores.float().masked_fill(~mask, float("-inf"))
    else:
        scores = scores.float() + mask
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    return torch.einsum("bkgts,bskd->btkgd", weights, value).flatten(2, 3)


class FullAttention:
    """One step without a cache: all tokens at once, from position 0. Training and parity use it."""

    def __init__(self, config: ModelConfig, tokens: int) -> None:
        self.config = config
        positions = torch.arange(tokens)
        self.masks = {window: visible(positions, positions, window) for window in config.windows}
        self.tables = {
            rotary: rotary_tables(positions, inverse_frequencies(rotary))
            for rotary in config.rotaries
        }
        self.sources = {layer.kv_from for layer in config.layers}
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor | None, value: Tensor | None) -> Tensor:
        settings = self.config.layers[layer]
        cosines, sines = self.tables[settings.rotary]
        if settings.kv_from is not None:
            key, value = self.kept[settings.kv_from]
        else:
            assert key is not None and value is not None, "a layer of its own keys and values"
            key, value = self.stored(layer, rotate(key, cosines, sines), value)
            if layer in self.sources:
                self.kept[layer] = key, value
        query = self.queried(layer, rotate(query, cosines, sines))
        return self.attended(query, key, value, settings.window)

    def attended(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """Attend within a window; shapes as in `softmax_attention`, queries and keys rotated."""
        mask, scale = self.masks[window], self.config.attention_scale
        return softmax_attention(query, key, value, mask, scale, self.config.attention_softcap)

    def queried(self, layer: int, query: Tensor) -> Tensor:
        """Return rotated queries of a layer, [B, T, H, D], as they are multiplied."""
        return query

    def stored(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotated keys and values of a layer, [B, T, K, D], as a cache holds them."""
        return key, value
