"""Replacements for the Decoder's modules, in the operator patterns that XNNPACK takes.

A quantized Linear is written as quantize → dequantize → linear: the partitioner folds that pattern
into one kernel that quantizes activations per token and multiplies integers
(qd8 × qc8w, qc4w or qb4w).
"""

import math
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.weight import QuantizedWeight, WeightStore
from pocketlm.models.config import ModelConfig
from pocketlm.models.decoder import Decoder
from pocketlm.models.layers import MLP, RMSNorm

# Rows up to this length are added up in one step: 16 KB, once packed.
_LONGEST_SUM = 256

Rows = NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


class FloatLinear(nn.Module):
    """x · weightᵀ in float32."""

    weight: Tensor

    def __init__(self, weight: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(weight))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


class QuantizedLinear(nn.Module):
    """x · weightᵀ with int8 activations, per token, and int4 or int8 weights.

    XNNPACK tells the layouts apart by this pattern alone: the code range says 4 or 8 bits, the
    operator says whether channels or groups share a scale.
    """

    codes: Tensor
    scales: Tensor
    zero_points: Tensor

    def __init__(self, weight: QuantizedWeight, rows: Rows | None) -> None:
        super().__init__()
        bits, self.group_size = weight.scheme.bits, weight.scheme.group_size
        if self.group_size is not None and bits != 4:
            raise BuildError(
                f"{bits}-bit weights with group_size={self.group_size}: XNNPACK has groups for "
                "4 bits only; use a scheme with one scale per channel"
            )
        self.code_range = (-8, 7) if bits == 4 else (-127, 127)
        scales = _select(weight.scales, rows)
        scales = scales if self.group_size else scales.reshape(-1)
        self.register_buffer("codes", torch.from_numpy(_select(weight.codes(), rows)))
        self.register_buffer("scales", torch.from_numpy(scales))
        self.register_buffer("zero_points", torch.zeros(scales.shape, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(quantized_per_token(x), self.weight())

    def weight(self) -> Tensor:
        """Return the dequantized weight, [out, in] float32."""
        low, high = self.code_range
        if self.group_size:
            grouped: Tensor = torch.ops.quantized_decomposed.dequantize_per_channel_group(
                self.codes, self.scales, self.zero_points,
                low, high, torch.int8, self.group_size, torch.float32,
            )  # fmt: skip
            return grouped
        per_channel: Tensor = torch.ops.quantized_decomposed.dequantize_per_channel(
            self.codes, self.scales, self.zero_points, 0, low, high, torch.int8
        )
        return per_channel


def quantized_per_token(x: Tensor) -> Tensor:
    """Return x after asymmetric int8 quantization of each row, as XNNPACK does inside qd8."""
    ops = torch.ops.quantized_decomposed
    scales, zero_points = ops.choose_qparams_per_token_asymmetric(x, torch.int8)
    codes = ops.quantize_per_token(x, scales, zero_points, -128, 127, torch.int8)
    restored: Tensor = ops.dequantize_per_token(
        codes, scales, zero_points, -128, 127, torch.int8, torch.float32
    )
    return restored


class FloatEmbedding(nn.Module):
    """Rows of a float32 table."""

    weight: Tensor

    def __init__(self, weight: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(weight))

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.embedding(tokens, self.weight)


class QuantizedEmbedding(nn.Module):
    """Rows of an int4 or int8 table, dequantized as they are gathered.

    A table that is the head too is kept in the head's order of bytes alone, so that both read the
    same bytes of the file.
    """

    codes: Tensor
    scales: Tensor
    swap: Tensor

    def __init__(self, weight: QuantizedWeight, is_head: bool) -> None:
        super().__init__()
        self.bits = weight.scheme.bits
        # The operator takes the two columns of a byte of the head in the other order.
        self.swaps = is_head and self.bits == 4
        codes = np.array(weight.packed) if is_head else gathered_codes(weight)
        self.register_buffer("codes", torch.from_numpy(codes))
        self.register_buffer("scales", torch.from_numpy(gathered_scales(weight)))
        if self.swaps:
            self.register_buffer("swap", neighbour_swap())

    def forward(self, tokens: Tensor) -> Tensor:
        ops = torch.ops.quantized_decomposed
        gather, low, high = (
            (ops.embedding_4bit.dtype, -8, 7)
            if self.bits == 4
            else (ops.embedding_byte.dtype, -127, 127)
        )
        rows: Tensor = gather(self.codes, self.scales, None, low, high, tokens, dtype=torch.float32)
        if not self.swaps:
            return rows
        # [1, T, E] → [T * E / 2, 2]: exact, each sum is one number and zero.
        return functional.linear(rows.reshape(-1, 2), self.swap).reshape(rows.shape)


def neighbour_swap() -> Tensor:
    """Return the weight of a linear layer that exchanges two channels."""
    return torch.tensor([[0.0, 1.0], [1.0, 0.0]])


class MeanNorm(nn.Module):
    """RMSNorm whose mean is float32 linear layers with one output.

    XNNPACK has no mean over one trailing dimension; written as `mean`, each norm would cut the
    layer into several delegates. It packs such a weight 16 outputs wide: a long row would be read
    from memory as 16 at every token. So long rows are added up in two short steps.
    """

    weight: Tensor
    adding: Tensor
    averaging: Tensor
    eps: Tensor

    def __init__(self, weight: NDArray[np.float32], eps: float) -> None:
        super().__init__()
        size = weight.size
        self.parts = _parts(size) if size > _LONGEST_SUM else 1
        self.register_buffer("weight", torch.from_numpy(weight))
        if self.parts > 1:
            self.register_buffer("adding", torch.ones(1, size // self.parts))
        self.register_buffer(
            "averaging", torch.full((1, self.parts if self.parts > 1 else size), 1.0 / size)
        )
        self.register_buffer("eps", torch.full((1,), eps))

    def forward(self, x: Tensor) -> Tensor:
        squares = x * x
        if self.parts > 1:
            squares = functional.linear(squares.unflatten(-1, (self.parts, -1)), self.adding)
            squares = squares.flatten(-2)
        return x * torch.rsqrt(functional.linear(squares, self.averaging, self.eps)) * self.weight


def _parts(size: int) -> int:
    """Return the divisor of a row's length that is nearest to its square root from below."""
    return next(n for n in range(math.isqrt(size), 0, -1) if size % n == 0)


class SigmoidMLP(nn.Module):
    """The gated MLP with its activation written as x · σ(s): s = x for silu.

    gelu_tanh has s = 2 · sqrt(2 / π) · (x + 0.044715 · x³): the delegate has one gelu, the erf
    kind, and takes both, which would be wrong by up to 5e-4.
    """

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.activation = mlp.activation

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        steepness = gate
        if self.activation == "gelu_tanh":
            twice = 2 * math.sqrt(2 / math.pi)
            steepness = gate * (gate * gate * (twice * 0.044715) + twice)
        activated: Tensor = self.down_proj(gate * torch.sigmoid(steepness) * self.up_proj(x))
        return activated


def pair_order(head_dim: int, rotary_dim: int, heads: int) -> Rows:
    """Return the rows that put channel i and i + dim / 2 of every head next to each other.

    Rotation then works on neighbours, which XNNPACK can do, and scores do not change: queries and
    keys are reordered alike. Channels that do not turn stay behind them.
    """
    pairs = np.arange(rotary_dim).reshape(2, rotary_dim // 2).T.reshape(-1)
    one_head = np.concatenate((pairs, np.arange(rotary_dim, head_dim)))
    starts = np.arange(heads)[:, None] * head_dim
    return np.asarray((starts + one_head).reshape(-1), dtype=np.int64)


def channel_order(config: ModelConfig, name: str) -> Rows | None:
    """Return the order of a weight's rows, or of a norm's channels; None is the store's own."""
    part = name.rpartition(".")[2]
    if part not in ("q_proj", "k_proj", "q_norm", "k_norm"):
        return None
    layer = config.layers[int(name.split(".")[1])]
    heads = {"q_proj": layer.num_attention_heads, "k_proj": layer.num_key_value_heads}
    return pair_order(layer.head_dim, layer.rotary.dim, heads.get(part, 1))


def replace_parts(decoder: Decoder, weights: WeightStore) -> None:
    """Give a Decoder this backend's modules, holding the store's weights. Changes `decoder`."""
    for name, module in list(decoder.named_modules()):
        if isinstance(module, nn.Embedding):
            decoder.set_submodule(name, _embedding(weights, name))
        elif isinstance(module, nn.Linear):
            stored = weights.head_name() if name == "lm_head" else name
            rows = channel_order(decoder.config, name)
            decoder.set_submodule(name, _linear(weights, stored, rows))
        elif isinstance(module, RMSNorm):
            weight = _select(weights.floating(name), channel_order(decoder.config, name))
            decoder.set_submodule(name, MeanNorm(weight, module.eps))
    for name, module in list(decoder.named_modules()):
        if isinstance(module, MLP):
            decoder.set_submodule(name, SigmoidMLP(module))


def _linear(weights: WeightStore, name: str, rows: Rows | None) -> nn.Module:
    if weights.schemes[name] is None:
        return FloatLinear(_select(weights.floating(name), rows))
    return QuantizedLinear(weights.quantized(name), rows)


def _embedding(weights: WeightStore, name: str) -> nn.Module:
    if weights.schemes[name] is None:
        return FloatEmbedding(_select(weights.floating(name), None))
    return QuantizedEmbedding(weights.quantized(name), name == weights.head_name())


def _select(array: NDArray[Number], rows: Rows | None) -> NDArray[Number]:
    """Return a writable copy of the rows; all of them for None."""
    return np.array(array) if rows is None else array[rows]


def gathered_codes(weight: QuantizedWeight) -> NDArray[Any]:
    """Return an embedding's codes as the gather operator reads them; a copy."""
    packed = np.array(weight.packed)
    if weight.scheme.bits == 4:
        # The operator wants even columns in the high four bits, the store has them low.
        low = packed >> np.uint8(4)
        packed <<= np.uint8(4)
        packed |= low
    return packed


def gathered_scales(weight: QuantizedWeight) -> NDArray[Any]:
    """Return an embedding's scales in float16 where that loses nothing, [rows, groups]."""
    exact = np.array(weight.scales)
    with np.errstate(over="ignore", under="ignore"):
        half = exact.astype(np.float16)
    return half if np.array_equal(half, exact) else exact
