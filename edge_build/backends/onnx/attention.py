"""Attention of one step in ONNX operators, for each way to keep keys and values.

Keys are rotated before they are stored. The runtime binds a cache as graph input and as graph
output to the same memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.config import LayerConfig, ModelConfig
from models.layers import visible
from runtime_py.manifest import CacheEntry


@dataclass(frozen=True)
class StepInputs:
    """What a step reads besides tokens.

    Attributes:
        positions: [T] int64, of the new tokens.
        total: [1] int64, tokens up to the end of this step.
        past: keys and values of each layer, [1, K, S, D].
        tables: cosines and sines of each rotation, [context, D / 2].
    """

    positions: Tensor
    total: Tensor
    past: Sequence[tuple[Tensor, Tensor]]
    tables: dict[LayerConfig, tuple[Tensor, Tensor]]


class CachedAttention:
    """An AttentionStep over caches that are graph inputs.

    "linear" and "windowed" layers are GroupQueryAttention, which writes its cache itself and, for
    a window, evicts what no later token sees.

    "ring" layers scatter to position mod S and attend with a mask. The scatter comes first: the
    runtime does not know that input and output are the same memory, so nothing may read the old
    ring while the new one is written. The slots beyond the window keep what the first token of a
    chunk still sees.
    """

    def __init__(
        self, config: ModelConfig, caches: Sequence[CacheEntry], inputs: StepInputs
    ) -> None:
        self.config, self.caches, self.inputs = config, caches, inputs
        self.total = inputs.total.to(torch.int32).reshape(())
        self.last = (inputs.total - 1).to(torch.int32)
        self.present: list[tuple[Tensor, Tensor]] = []
        self.masks: dict[tuple[int, int | None], Tensor] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend in one layer; see AttentionStep."""
        if self.caches[layer].kind == "ring":
            return self._attend_in_ring(layer, query, key, value)
        return self._attend_in_kernel(layer, query, key, value)

    def _attend_in_kernel(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        cache = self.caches[layer]
        past_key, past_value = self.inputs.past[layer]
        tokens, heads, size = query.shape[1:]
        operands = (
            *(x.flatten(2) for x in (query, key, value)),
            *(past_key, past_value, self.last, self.total),
            *self.inputs.tables[self.config.layers[layer]],
        )
        attributes = {
            **self._scoring(),
            "num_heads": heads,
            "kv_num_heads": cache.num_key_value_heads,
            "do_rotary": 1,
        }
        if cache.window is not None:
            attributes["local_window_size"] = cache.window
        if cache.kind == "windowed":
            attributes["sliding_window_cache"] = 1
        attended, *present = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            operands,
            attributes,
            dtypes=(torch.float32, torch.float32, torch.float32),
            shapes=((1, tokens, heads * size), tuple(past_key.shape), tuple(past_value.shape)),
            version=1,
        )
        self.present.append((present[0], present[1]))
        return attended.reshape(1, tokens, heads, size)

    def _attend_in_ring(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rotation = self.config.layers[layer]
        past_key, past_value = self.inputs.past[layer]
        ring_key = self._scatter(past_key, self._rotate(key.transpose(1, 2), rotation))
        ring_value = self._scatter(past_value, value.transpose(1, 2))
        self.present.append((ring_key, ring_value))
        rotated = self._rotate(query.transpose(1, 2), rotation)
        operands = (rotated, ring_key, ring_value, self._mask(self.caches[layer]))
        return _operator("Attention", operands, self._scoring(), rotated, 24).transpose(1, 2)

    def _scoring(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {"scale": self.config.attention_scale}
        if self.config.attention_softcap is not None:
            attributes["softcap"] = self.config.attention_softcap
        return attributes

    def _rotate(self, x: Tensor, rotation: LayerConfig) -> Tensor:
        operands = (x, *self.inputs.tables[rotation], self.inputs.positions.unsqueeze(0))
        return _operator("RotaryEmbedding", operands, {}, x, 23)

    def _scatter(self, past: Tensor, update: Tensor) -> Tensor:
        attributes = {"axis": 2, "mode": "circular"}
        start = self.inputs.positions[:1]
        return _operator("TensorScatter", (past, update, start), attributes, past, 24)

    def _mask(self, cache: CacheEntry) -> Tensor:
        """Return what is added to scores, [T, S]: one tensor for all layers of a kind."""
        kind = (cache.capacity, cache.window)
        if kind not in self.masks:
            newest = self.inputs.total - 1
            slots = torch.arange(cache.capacity)
            held = newest - torch.remainder(newest - slots, cache.capacity)
            seen = visible(self.inputs.positions, held, cache.window)
            # A float, so that no layer converts it again.
            self.masks[kind] = torch.where(seen, 0.0, float("-inf"))
        return self.masks[kind]


def _operator(
    operator: str, inputs: Sequence[Tensor], attributes: dict[str, Any], like: Tensor, version: int
) -> Tensor:
    result: Tensor = torch.onnx.ops.symbolic(
        operator, inputs, attributes, dtype=torch.float32, shape=like.shape, version=version
    )
    return result
