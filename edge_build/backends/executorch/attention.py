"""Attention of one step over caches that are mutable buffers, in ExecuTorch's LLM operators.

Rotation, masks and slots are computed from `input_pos` once per step and shared by all layers of a
kind: no position is stored anywhere, so a cache needs no clearing.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketlm.edge_build.backends.executorch.parts import neighbour_swap
from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.models.config import LayerConfig, ModelConfig, Rotary
from pocketlm.models.layers import inverse_frequencies, visible
from pocketlm.runtime_py.cache_layout import CacheLayout
from pocketlm.runtime_py.manifest import CacheEntry

Rotation = tuple[Tensor, Tensor]


class QuantizedRows(NamedTuple):
    """Rows in int8: a value is (code - zero point) * scale.

    Attributes:
        codes: [..., D] int8.
        scales: [..., 1] float32.
        zero_points: [..., 1] int8.
    """

    codes: Tensor
    scales: Tensor
    zero_points: Tensor


class LayerCache(nn.Module):
    """Keys and values of one layer, [1, S, K, D], or [K, S, 1, D] where heads are a batch.

    They are float32, or codes with their scales and zero points in buffers beside them.
    """

    key: Tensor
    value: Tensor

    def __init__(self, entry: CacheEntry, heads_are_batch: bool) -> None:
        super().__init__()
        self.quantized = entry.quantization == "per_token"
        self.heads, size = entry.num_key_value_heads, entry.head_dim
        batch, inner = (self.heads, 1) if heads_are_batch else (1, self.heads)
        rows = (batch, entry.capacity, inner)
        for name in ("key", "value"):
            if not self.quantized:
                self.register_buffer(name, torch.zeros(*rows, size))
                continue
            self.register_buffer(name, torch.zeros(*rows, size, dtype=torch.int8))
            self.register_buffer(f"{name}_scales", torch.zeros(*rows, 1))
            self.register_buffer(f"{name}_zero_points", torch.zeros(*rows, 1, dtype=torch.int8))

    def rows(self, name: str) -> QuantizedRows:
        """Return the buffers of int8 "key" or "value"."""
        suffixes = ("", "_scales", "_zero_points")
        return QuantizedRows(*(self.get_buffer(name + suffix) for suffix in suffixes))


class CachedAttention(nn.Module):
    """The caches of every layer, and the arithmetic that is the same for all steps."""

    swap: Tensor
    signs: Tensor

    def __init__(self, config: ModelConfig, plan: CachePlan) -> None:
        super().__init__()
        self.config = config
        self.plan = plan
        # The stock attention operator has no soft cap.
        self.plain = config.attention_softcap is not None
        # By the layer that writes it, under whose number it stands in the program.
        self.layers = nn.ModuleDict(
            {
                str(layer): LayerCache(entry, self.plain)
                for layer, entry in zip(config.cached_layers, plan.layers, strict=True)
            }
        )
        self.register_buffer("swap", neighbour_swap())
        self.rotation_kinds = tuple(dict.fromkeys(map(_rotation_kind, config.layers)))
        for index, (rotary, head_dim) in enumerate(self.rotation_kinds):
            pairs = inverse_frequencies(rotary).double().repeat_interleave(2)
            # Channels that do not turn have angle 0: a cosine of 1 and a sine of 0.
            pairs = functional.pad(pairs, (0, head_dim - rotary.dim))
            self.register_buffer(f"frequencies_{index}", pairs)
        largest = max(head_dim for _, head_dim in self.rotation_kinds)
        signs = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(largest // 2)
        self.register_buffer("signs", signs)

    def cache_of(self, layer: int) -> LayerCache:
        """Return the cache that a layer reads."""
        cache = self.layers[str(self.config.cached_layers[self.config.cache_of(layer)])]
        assert isinstance(cache, LayerCache)
        return cache

    def step(self, tokens: int, input_pos: Tensor) -> "CachedStep":
        """Return the attention of `tokens` new tokens from position `input_pos` [1] int64."""
        return CachedStep(self, tokens, input_pos)


class CachedStep:
    """One step's AttentionStep: writes the new keys and values, then attends."""

    def __init__(self, attention: CachedAttention, tokens: int, input_pos: Tensor) -> None:
        self.attention = attention
        self.config = attention.config
        self.plan = attention.plan
        self.positions = input_pos + torch.arange(0, tokens, 1)  # [T]
        self.newest = input_pos + (tokens - 1)  # [1]
        self.start = _start(input_pos, tokens, self.plan)
        self.rotations = {
            kind: rotation(
                self.positions, attention.get_buffer(f"frequencies_{index}"), attention.signs
            )
            for index, kind in enumerate(attention.rotation_kinds)
        }
        self.masks = {
            layout: self._mask(layout)
            for layout in dict.fromkeys(
                entry.layout for entry in self.plan.layers if self._needs_mask(entry.layout)
            )
        }
        self.slots = {
            (layout, batch): self._slots(layout, batch)
            for layout, batch in dict.fromkeys(
                (entry.layout, self._batch(entry))
                for entry in self.plan.layers
                if entry.layout.overwrites
            )
        }

    def attend(self, layer: int, query: Tensor, key: Tensor | None, value: Tensor | None) -> Tensor:
        entry = self.plan.layers[self.config.cache_of(layer)]
        turn = self.rotations[_rotation_kind(self.config.layers[layer])]
        query = self._rotate(query, turn)
        cache = self.attention.cache_of(layer)
        if key is not None and value is not None:
            self._write(entry, cache, self._rotate(key, turn), value)
        mask = self.masks.get(entry.layout)
        if self.attention.plain:
            assert mask is not None, "plain attention always has a mask"
            return self._plain_attention(query, cache, mask)
        # The operator reads no start where it is given a mask.
        start = 0 if mask is not None else self.start
        scale = self.config.attention_scale
        if cache.quantized:
            queries, keys, values = quantize_rows(query), cache.rows("key"), cache.rows("value")
            attended: Tensor = torch.ops.llama.custom_quantized_sdpa(
                queries.codes, keys.codes, values.codes,
                start, mask, 0.0, mask is None, scale,
                queries.zero_points, queries.scales,
                keys.zero_points, keys.scales,
                values.zero_points, values.scales,
            )  # fmt: skip
        else:
            attended = torch.ops.llama.custom_sdpa(
                query, cache.key, cache.value, start, mask, 0.0, mask is None, scale
            )
        return attended

    def _needs_mask(self, layout: CacheLayout) -> bool:
        windowed = layout.window is not None and layout.window < self.plan.context_length
        return windowed or layout.overwrites or self.attention.plain

    def _mask(self, layout: CacheLayout) -> Tensor:
        """Return [T, S] float32: 0 where a query may look, -inf elsewhere."""
        slots = torch.arange(0, layout.capacity, 1)
        # Of slots that nothing was written to, torch says a position below 0. In ExecuTorch the
        # remainder keeps its sign (findings/executorch_remainder_sign.sh): one after the newest.
        # No query may look at either.
        held = layout.position_in(slots, self.newest)  # [S]
        hidden = ~visible(self.positions, held, layout.window)
        zeros = torch.full(hidden.shape, 0, dtype=torch.float32)
        return torch.where(hidden, torch.scalar_tensor(float("-inf")), zeros)

    def _batch(self, entry: CacheEntry) -> int:
        return entry.num_key_value_heads if self.attention.plain else 1

    def _slots(self, layout: CacheLayout, batch: int) -> Tensor:
        """Return the slots of the new tokens, [1, T], or [K, T] where heads are a batch."""
        slots = layout.slot_of(self.positions, self.newest).unsqueeze(0)
        return slots.expand(batch, -1)

    def _rotate(self, x: Tensor, turn: Rotation) -> Tensor:
        """Rotate neighbouring channels of x [1, T, heads, D] (parts.pair_order)."""
        cosines, sines = turn
        heads, size = x.shape[2], x.shape[3]
        swapped = functional.linear(x.reshape(-1, 2), self.attention.swap)
        return x * cosines + swapped.reshape(1, -1, heads, size) * sines

    def _write(self, entry: CacheEntry, cache: LayerCache, key: Tensor, value: Tensor) -> None:
        if self.attention.plain:
            key, value = key.permute(2, 1, 0, 3), value.permute(2, 1, 0, 3)  # [K, T, 1, D]
        for name, rows in (("key", key), ("value", value)):
            if cache.quantized:
                for new, buffer in zip(quantize_rows(rows), cache.rows(name), strict=True):
                    self._write_buffer(entry, buffer, new)
            else:
                self._write_buffer(entry, cache.get_buffer(name), rows)

    def _write_buffer(self, entry: CacheEntry, buffer: Tensor, new: Tensor) -> None:
        if entry.layout.overwrites:
            slots = self.slots[entry.layout, self._batch(entry)]
            torch.ops.llama.update_cache_with_indices(new, buffer, 0, slots)
        else:
            # Unlike the operator above this one checks its bounds without aborting.
            torch.ops.llama.update_cache(new, buffer, self.start)

    def _plain_attention(self, query: Tensor, cache: LayerCache, mask: Tensor) -> Tensor:
        """Attention with a soft cap. The caches are [K, S, 1, D]."""
        heads, size = query.shape[2], query.shape[3]
        shared = cache.heads
        cap = self.config.attention_softcap
        assert cap is not None
        # [1, T, H, D] → [K, D, T * H / K]
        columns = query.reshape(-1, shared, heads // shared, size).permute(1, 3, 0, 2)
        columns = _copied(columns, shared, size, -1) * (self.config.attention_scale / cap)
        scores = torch.bmm(_restored(cache, "key").view(shared, -1, size), columns)
        scores = cap * torch.tanh(scores.permute(0, 2, 1))  # [K, T * H / K, S]
        by_token = _copied(scores, shared, -1, heads // shared, scores.shape[-1])
        weights: Tensor = torch.ops.aten._softmax(by_token + mask.unsqueeze(1), -1, False)
        weights = weights.view(shared, -1, scores.shape[-1])
        mixed = torch.bmm(weights, _restored(cache, "value").view(shared, -1, size))
        grouped = mixed.view(shared, -1, heads // shared, size).permute(1, 0, 2, 3)
        return _copied(grouped, 1, -1, heads, size)


def _copied(x: Tensor, *shape: int) -> Tensor:
    """Return x of another shape, as reshape does, in operators that need no decomposition."""
    return x.contiguous().view(*shape)


def rotation(positions: Tensor, frequencies: Tensor, signs: Tensor) -> Rotation:
    """Return cosines and signed sines, [1, T, 1, D] float32, for channels in pair order.

    Float64 keeps them with the portable kernels: XNNPACK takes float32 cos and sin, with
    polynomials of its own. The angle itself is rounded to float32, as the Decoder's is.

    Args:
        signs: at least as many as frequencies.
    """
    angles = positions.double().reshape(1, -1, 1, 1) * frequencies
    angles = angles.float().double()
    if signs.shape[-1] > frequencies.shape[-1]:
        signs = signs[: frequencies.shape[-1]]
    return angles.cos().float(), (angles.sin() * signs).float()


def quantize_rows(x: Tensor) -> QuantizedRows:
    """Quantize each row of x [..., D] float32, in the operators whose rounding is recorded."""
    ops = torch.ops.quantized_decomposed
    scales, zero_points = ops.choose_qparams_per_token_asymmetric(x, torch.int8)
    codes = ops.quantize_per_token(x, scales, zero_points, -128, 127, torch.int8)
    # The operators exchange float64 and int64; caches and attention take these.
    return QuantizedRows(codes, scales.to(torch.float32), zero_points.to(torch.int8))


def _restored(cache: LayerCache, name: str) -> Tensor:
    """Return all keys or values in float32, in the cache's layout."""
    if not cache.quantized:
        return cache.get_buffer(name)
    codes, scales, zero_points = cache.rows(name)
    return (_as_float(codes) - _as_float(zero_points)) * scales


def _as_float(codes: Tensor) -> Tensor:
    """Return int8 numbers in float32, in an operator that XNNPACK takes."""
    restored: Tensor = torch.ops.quantized_decomposed.dequantize_per_tensor(
        codes, 1.0, 0, -128, 127, torch.int8
    )
    return restored


def _rotation_kind(layer: LayerConfig) -> tuple[Rotary, int]:
    return layer.rotary, layer.head_dim


def _start(input_pos: Tensor, tokens: int, plan: CachePlan) -> int:
    """Return the position as a number, with the range that export must know."""
    # What item() becomes; decomposing it is a pass over the whole graph.
    start: int = torch.ops.aten._local_scalar_dense(input_pos[0])
    torch._check(start >= 0)
    torch._check(start + tokens <= plan.context_length)
    return start
