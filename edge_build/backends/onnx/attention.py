"""Attention of one step in ONNX operators, for each way to keep keys and values.

Keys are rotated before they are stored, as float32 or as int8 codes with constant scales. The
runtime binds a cache as graph input and as graph output to the same memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pocketlm.edge_build.backends.onnx.kinds import MASKED_OPSET, operators_of
from pocketlm.models.config import ModelConfig, Rotary
from pocketlm.models.layers import visible
from pocketlm.runtime_py.cache_layout import CacheLayout
from pocketlm.runtime_py.manifest import CacheEntry

_QUANTIZED_CACHE = {
    "k_quant_type": "PER_CHANNEL",
    "v_quant_type": "PER_CHANNEL",
    "kv_cache_bit_width": 8,
}


@dataclass(frozen=True)
class StepInputs:
    """What a step reads besides tokens.

    Attributes:
        positions: [T] int64, of the new tokens.
        total: [1] int64, tokens up to the end of this step.
        past: keys and values of each cache, [1, K, S, D].
        tables: cosines and sines of each rotation, [context, dim / 2].
        scales: of each cache's int8 keys and values, [1, K, 1, D]; None for a float32 cache.
    """

    positions: Tensor
    total: Tensor
    past: Sequence[tuple[Tensor, Tensor]]
    tables: dict[Rotary, tuple[Tensor, Tensor]]
    scales: Sequence[tuple[Tensor, Tensor] | None]


class CachedAttention:
    """An AttentionStep over caches that are graph inputs.

    Most kinds are GroupQueryAttention, which writes its cache itself and, for a window, evicts what
    no later token sees (kinds.py).

    A ring scatters to position mod S and attends with a mask. The scatter comes first: the runtime
    does not know that input and output are the same memory, so nothing may read the old ring while
    the new one is written. The slots beyond the window keep what the first token of a chunk still
    sees. A ring of codes is never multiplied by its scales: a channel's scale of keys goes to the
    query, and that of values to the result, which are smaller.

    A layer that reads the keys and values of an earlier one attends with a mask to what that one
    has written, whatever the kind.
    """

    def __init__(
        self, config: ModelConfig, caches: Sequence[CacheEntry], inputs: StepInputs
    ) -> None:
        self.config, self.caches, self.inputs = config, caches, inputs
        self.total = inputs.total.to(torch.int32).reshape(())
        self.last = (inputs.total - 1).to(torch.int32)
        self.present: list[tuple[Tensor, Tensor]] = []
        self.masks: dict[CacheLayout, Tensor] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor | None, value: Tensor | None) -> Tensor:
        """Attend in one layer; see AttentionStep."""
        if key is None or value is None:
            return self._attend_to_written(layer, self._rotate(layer, query.transpose(1, 2)))
        if operators_of(self.caches[self.config.cache_of(layer)]).in_kernel:
            return self._attend_in_kernel(layer, query, key, value)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))  # [1, heads, T, D]
        query, key = self._rotate(layer, query), self._rotate(layer, key)
        self._write_ring(layer, key, value)
        return self._attend_to_written(layer, query)

    def _attend_in_kernel(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        index = self.config.cache_of(layer)
        cache = self.caches[index]
        past_key, past_value = self.inputs.past[index]
        tokens, heads, size = query.shape[1:]
        operands: tuple[Tensor | None, ...] = (
            *(x.flatten(2) for x in (query, key, value)),
            *(past_key, past_value, self.last, self.total),
            *self.inputs.tables[self.config.layers[layer].rotary],
        )
        attributes = {
            **self._scoring(),
            "num_heads": heads,
            "kv_num_heads": cache.num_key_value_heads,
            "do_rotary": 1,
        }
        if cache.window is not None:
            attributes["local_window_size"] = cache.window
        if operators_of(cache).slides:
            attributes["sliding_window_cache"] = 1
        scales = self.inputs.scales[index]
        if scales is not None:
            attributes |= _QUANTIZED_CACHE
            # Positions, bias and sinks are not given.
            operands = (*operands, None, None, None, *scales)
        attended, *present = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            operands,
            attributes,
            dtypes=(torch.float32, past_key.dtype, past_value.dtype),
            shapes=((1, tokens, heads * size), tuple(past_key.shape), tuple(past_value.shape)),
            version=1,
        )
        self.present.append((present[0], present[1]))
        return attended.reshape(1, tokens, heads, size)

    def _write_ring(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Write key and value [1, K, T, D], the key rotated."""
        index = self.config.cache_of(layer)
        scales = self.inputs.scales[index]
        if scales is not None:
            key_scales, value_scales = scales
            key, value = _codes(key, key_scales), _codes(value, value_scales)
        past_key, past_value = self.inputs.past[index]
        self.present.append((self._scatter(past_key, key), self._scatter(past_value, value)))

    def _attend_to_written(self, layer: int, query: Tensor) -> Tensor:
        """Attend with rotated queries [1, H, T, D] to a cache as this step has written it."""
        index = self.config.cache_of(layer)
        key, value = self.present[index]
        scales = self.inputs.scales[index]
        if scales is None:
            return self._attend_to(index, query, key, value).transpose(1, 2)
        key_scales, value_scales = scales
        query = query * _of_queries(key_scales, query.shape[1])
        attended = self._attend_to(index, query, key.float(), value.float())
        return (attended * _of_queries(value_scales, query.shape[1])).transpose(1, 2)

    def _attend_to(self, cache: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        operands = (query, key, value, self._mask(self.caches[cache]))
        return _operator("Attention", operands, self._scoring(), query, MASKED_OPSET)

    def _scoring(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {"scale": self.config.attention_scale}
        if self.config.attention_softcap is not None:
            attributes["softcap"] = self.config.attention_softcap
        return attributes

    def _rotate(self, layer: int, x: Tensor) -> Tensor:
        rotary = self.config.layers[layer].rotary
        operands = (x, *self.inputs.tables[rotary], self.inputs.positions.unsqueeze(0))
        attributes = {"rotary_embedding_dim": rotary.dim} if rotary.dim < x.shape[-1] else {}
        return _operator("RotaryEmbedding", operands, attributes, x, 23)

    def _scatter(self, past: Tensor, update: Tensor) -> Tensor:
        attributes = {"axis": 2, "mode": "circular"}
        start = self.inputs.positions[:1]
        return _operator("TensorScatter", (past, update, start), attributes, past, MASKED_OPSET)

    def _mask(self, cache: CacheEntry) -> Tensor:
        """Return what is added to scores, [T, S]: one tensor for all layers of a kind."""
        layout = cache.layout
        if layout not in self.masks:
            newest = self.inputs.total - 1
            held = layout.position_in(torch.arange(layout.capacity), newest)
            seen = visible(self.inputs.positions, held, layout.window)
            # A float, so that no layer converts it again.
            self.masks[layout] = torch.where(seen, 0.0, float("-inf"))
        return self.masks[layout]


def _operator(
    operator: str, inputs: Sequence[Tensor], attributes: dict[str, Any], like: Tensor, version: int
) -> Tensor:
    result: Tensor = torch.onnx.ops.symbolic(
        operator, inputs, attributes, dtype=like.dtype, shape=like.shape, version=version
    )
    return result


def _codes(x: Tensor, scales: Tensor) -> Tensor:
    """Return int8 codes of x [1, K, T, D], saturated, as GroupQueryAttention rounds."""
    # Divided by 1, because the operator has no scale for each head's channels.
    operands = (x * scales.reciprocal(), torch.tensor(1.0), torch.tensor(0, dtype=torch.int8))
    codes: Tensor = torch.onnx.ops.symbolic(
        "QuantizeLinear", operands, {}, dtype=torch.int8, shape=x.shape, version=23
    )
    return codes


def _of_queries(scales: Tensor, heads: int) -> Tensor:
    """Repeat scales [1, K, 1, D] for the heads that queries have, [1, H, 1, D]."""
    shared, size = scales.shape[1], scales.shape[3]
    repeated = scales.unsqueeze(2).expand(1, shared, heads // shared, 1, size)
    return repeated.reshape(1, heads, 1, size)
