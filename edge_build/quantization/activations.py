"""What runtimes' kernels round to int8, for the eager reference: activations, queries, caches."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.runtime_py.manifest import (
    ActivationQuantization,
    AttentionQuantization,
    CacheEntry,
)

# MatMulNBits takes blocks of a power of two up to 256 columns; weights with one scale per channel
# are cut into blocks of this size, which divides every published hidden size.
CHANNEL_BLOCK = 128
_LARGEST_BLOCK = 256
# ExecuTorch's kernels/quantized/cpu/op_choose_qparams.cpp, SMALL_SCALE_THRESHOLD.
_SMALLEST_ROW_SCALE = 6.1e-5


@dataclass(frozen=True)
class Rounding:
    """What a runtime rounds.

    Attributes:
        whole: numbers of the caches where attention rounds nothing, because they are float32.
    """

    activations: ActivationQuantization = "none"
    attention: AttentionQuantization = "none"
    whole: tuple[int, ...] = ()

    @classmethod
    def over(
        cls,
        caches: Sequence[CacheEntry],
        activations: ActivationQuantization,
        attention: AttentionQuantization,
    ) -> "Rounding":
        """Return what is rounded with such caches."""
        if attention == "none":
            return cls(activations)
        whole = (i for i, cache in enumerate(caches) if cache.quantization == "none")
        return cls(activations, attention, tuple(whole))

    @property
    def of_attention(self) -> "Rounding":
        """What attention alone rounds."""
        return replace(self, activations="none")

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys((self.activations, self.attention)))


@dataclass(frozen=True)
class AttentionRounding:
    """What is done to operands of attention, each [B, T, heads, D], queries and keys rotated.

    Attributes:
        query: to queries that look into a cache, which comes first by its number.
        key_value: to new keys and values, before they are written to a cache, likewise.
    """

    query: Callable[[int, Tensor], Tensor]
    key_value: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


def activation_block(scheme: QuantScheme) -> int:
    """Return the columns that share an activation scale in ONNX Runtime's MatMulNBits.

    It is also the block of the weight: the largest power of two that divides the group.
    """
    if scheme.group_size is None:
        return CHANNEL_BLOCK
    return min(_LARGEST_BLOCK, scheme.group_size & -scheme.group_size)


def quantize_per_block_symmetric(x: Tensor, block: int) -> Tensor:
    """Round to int8 and back as MatMulNBits does at accuracy level 4, for 4 and 8 bit weights.

    Each block of columns has the scale max|x| / 127; codes are round-half-even of x times the
    reciprocal of that scale. A last block may be shorter.

    Args:
        x: [..., columns] float32.

    Returns:
        The same shape, float32.
    """
    columns = x.shape[-1]
    padding = -columns % block
    blocks = torch.nn.functional.pad(x, (0, padding)).reshape(*x.shape[:-1], -1, block)
    scales = blocks.abs().amax(-1, keepdim=True) / 127
    reciprocals = torch.where(scales > 0, 1 / scales, torch.zeros_like(scales))
    rounded: Tensor = torch.round(blocks * reciprocals) * scales
    return rounded.flatten(-2)[..., :columns]


def quantize_per_token_asymmetric(x: Tensor) -> Tensor:
    """Round to int8 and back as XNNPACK's dynamic quantization (qd8) does, bit by bit.

    Each row has one scale, from its range widened to hold zero, and one zero point: that end of the
    range decides it which then suffers the smaller rounding error. Steps stay in float32 and round
    half to even, as the kernels do: `x * (255 / range)`, never `x / scale`.

    Args:
        x: [..., columns] float32.

    Returns:
        The same shape, float32.
    """
    low = x.amin(-1, keepdim=True).clamp(max=0.0)
    high = x.amax(-1, keepdim=True).clamp(min=0.0)
    span = high - low
    # A true division: a number over a tensor would be 255 times a rounded reciprocal.
    multiplier = torch.where(span > 0, span.new_tensor(255.0) / span, torch.ones_like(span))
    scaled_low, scaled_high = low * multiplier, high * multiplier
    from_low = (-128 + scaled_low) + (127 + scaled_high) > 0
    zero_point = torch.where(from_low, -128 - scaled_low, 127 - scaled_high)
    zero_point = torch.round(zero_point.clamp(-128, 127))
    codes = (torch.round(x * multiplier) + zero_point).clamp(-128, 127)
    restored: Tensor = (codes - zero_point) * multiplier.reciprocal()
    return restored


def quantize_per_channel_symmetric(x: Tensor, scales: Tensor) -> Tensor:
    """Round to int8 and back as GroupQueryAttention does when it writes a cache.

    Codes are round-half-even of x times the reciprocal of its scale; they saturate.

    Args:
        x: [..., K, D] float32.
        scales: [K, D] float32, positive.

    Returns:
        The same shape, float32.
    """
    return torch.round(x * scales.reciprocal()).clamp(-128, 127) * scales


def quantize_per_row_asymmetric(x: Tensor) -> Tensor:
    """Round to int8 and back as ExecuTorch's choose_qparams_per_token_asymmetric does, bit by bit.

    Each row has one scale, from its range widened to hold zero, and one zero point, from the end
    of the range that is farther from zero. Both are found in float64 and used in float32; no scale
    is below 6.1e-5.

    Args:
        x: [..., columns] float32.

    Returns:
        The same shape, float32.
    """
    low = x.amin(-1, keepdim=True).clamp(max=0.0).double()
    high = x.amax(-1, keepdim=True).clamp(min=0.0).double()
    scale = (high - low) / 255
    scale = torch.where(scale.float() == 0, torch.full_like(scale, 0.1), scale)
    scaled_low, scaled_high = low / scale, high / scale
    from_low = 128 + scaled_low < 127 - scaled_high
    zero_point = torch.where(from_low, -128 - scaled_low, 127 - scaled_high)
    zero_point = torch.round(zero_point.clamp(-128, 127)).float()
    scale = scale.float().clamp(min=_SMALLEST_ROW_SCALE)
    codes = (torch.round(x * scale.reciprocal()) + zero_point).clamp(-128, 127)
    return (codes - zero_point) * scale


def attention_rounding(
    kind: AttentionQuantization, scales: KvScales | None, whole: Collection[int] = ()
) -> AttentionRounding:
    """Return what a runtime rounds.

    Args:
        scales: those of "kv_per_channel"; no other kind reads them.
        whole: numbers of the caches that are float32: nothing is rounded there.
    """
    rounding = _rounding_of(kind, scales)

    def query(cache: int, x: Tensor) -> Tensor:
        return x if cache in whole else rounding.query(cache, x)

    def key_value(cache: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return (key, value) if cache in whole else rounding.key_value(cache, key, value)

    return AttentionRounding(query, key_value) if whole else rounding


def _rounding_of(kind: AttentionQuantization, scales: KvScales | None) -> AttentionRounding:
    if kind == "none":
        return AttentionRounding(_unchanged, lambda cache, key, value: (key, value))
    if kind == "kv_per_channel":
        assert scales is not None, "constant scales come from calibration"
        return AttentionRounding(_unchanged, _ConstantScales(scales))
    per_row = quantize_per_row_asymmetric
    return AttentionRounding(
        _unchanged if kind == "kv_per_token" else lambda cache, x: per_row(x),
        lambda cache, key, value: (per_row(key), per_row(value)),
    )


def _unchanged(cache: int, x: Tensor) -> Tensor:
    return x


class _ConstantScales:
    """Rounds keys and values with each cache's constant scales."""

    def __init__(self, scales: KvScales) -> None:
        self.keys, self.values = (
            [torch.from_numpy(one) for one in every] for every in (scales.keys, scales.values)
        )

    def __call__(self, cache: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return (
            quantize_per_channel_symmetric(key, self.keys[cache]),
            quantize_per_channel_symmetric(value, self.values[cache]),
        )
