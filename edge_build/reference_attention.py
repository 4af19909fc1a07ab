"""Attention of the eager model over every key and value, by position.

It shares no arithmetic with the artifacts that are compared with it.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from pocketlm.edge_build.quantization.activations import AttentionRounding
from pocketlm.models.config import ModelConfig
from pocketlm.models.layers import (
    inverse_frequencies,
    rotary_tables,
    rotate,
    softmax_attention,
    visible,
)

KeysAndValues = tuple[Tensor, Tensor]


class KeepEverything:
    """An AttentionStep over all keys and values since position 0, rounded when they were new.

    Args:
        past: keys and values of each cache; None is a sequence that does not go on.
        roundings: one for each member of a batch.

    Positions before `new` that have no key are slots of zeros. Each scores 0 and adds nothing, so
    that n of them weigh as one whose score is log n.
    """

    def __init__(
        self,
        config: ModelConfig,
        past: list[KeysAndValues] | None,
        new: Tensor,
        roundings: Sequence[AttentionRounding],
    ) -> None:
        self.config, self.past, self.roundings = config, past, roundings
        self.present: list[KeysAndValues] = []
        before = past[0][0].shape[1] if past else 0
        every = torch.cat((torch.arange(before), new))
        self.has_zeros = len(every) <= int(new[-1])
        self.masks = {window: self._mask(new, every, window) for window in config.windows}
        self.tables = {
            rotary: rotary_tables(new, inverse_frequencies(rotary)) for rotary in config.rotaries
        }
        self.sources = {layer.kv_from for layer in config.layers}
        # Of layers that later ones read: keys and values of each member of the batch.
        self.kept: dict[int, list[KeysAndValues]] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor | None, value: Tensor | None) -> Tensor:
        settings = self.config.layers[layer]
        cosines, sines = self.tables[settings.rotary]
        # That of the layer whose keys and values are read.
        cache = self.config.cache_of(layer)
        seen: Iterable[KeysAndValues]
        if settings.kv_from is not None:
            seen = self.kept[settings.kv_from]
        else:
            assert key is not None and value is not None, "a layer of its own keys and values"
            pairs = zip(rotate(key, cosines, sines).split(1), value.split(1), strict=True)
            seen = (
                self._with_past(cache, *rounding.key_value(cache, *pair))
                for rounding, pair in zip(self.roundings, pairs, strict=True)
            )
            if layer in self.sources:
                seen = self.kept[layer] = list(seen)
        queries = zip(self.roundings, rotate(query, cosines, sines).split(1), seen, strict=True)
        # One after the other: scores of all of them at once would be the most that a model holds.
        attended = [
            self._attend_one(settings.window, rounding.query(cache, one), *keys_and_values)
            for rounding, one, keys_and_values in queries
        ]
        return torch.cat(attended)

    def _with_past(self, cache: int, key: Tensor, value: Tensor) -> KeysAndValues:
        if self.past:
            key = torch.cat((self.past[cache][0], key), dim=1)
            value = torch.cat((self.past[cache][1], value), dim=1)
        if self.past is not None:
            self.present.append((key, value))
        return key, value

    def _attend_one(self, window: int | None, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.has_zeros:
            key, value = _with_zeros(key), _with_zeros(value)
        return softmax_attention(
            query,
            key,
            value,
            self.masks[window],
            self.config.attention_scale,
            self.config.attention_softcap,
        )

    def _mask(self, new: Tensor, every: Tensor, window: int | None) -> Tensor:
        seen = visible(new, every, window)
        if not self.has_zeros:
            return seen
        slots = new + 1 if window is None else (new + 1).clamp(max=window)
        zeros = (slots - seen.sum(-1)).float()
        # The logarithm of no slot is minus infinity: masked.
        return torch.cat((torch.where(seen, 0.0, float("-inf")), zeros.log()[:, None]), dim=-1)


class Packed:
    """An AttentionStep over sequences that lie one after the other and do not see each other."""

    def __init__(
        self, steps: Sequence[KeepEverything], lengths: list[int], advance: Callable[[int], None]
    ) -> None:
        self.steps, self.lengths, self.advance = steps, lengths, advance

    def attend(self, layer: int, query: Tensor, key: Tensor | None, value: Tensor | None) -> Tensor:
        self.advance(layer)
        parts = zip(*(self._split(x) for x in (query, key, value)), strict=True)
        attended = [
            step.attend(layer, one, *keys_and_values)
            for step, (one, *keys_and_values) in zip(self.steps, parts, strict=True)
        ]
        return torch.cat(attended, dim=1)

    def _split(self, x: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * len(self.steps) if x is None else x.split(self.lengths, dim=1)


def _with_zeros(x: Tensor) -> Tensor:
    """Return [B, S, K, D] with one slot of zeros at the end."""
    return torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 1))
