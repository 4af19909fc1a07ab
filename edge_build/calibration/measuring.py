"""Observers that a model's layers call with their inputs, keys and values, and never change."""

import torch
from torch import Tensor

from pocketlm.edge_build.calibration.measured import InputStatistics, KvBounds, Statistic
from pocketlm.edge_build.calibration.moments import second_moments
from pocketlm.edge_build.quantization.activations import AttentionRounding
from pocketlm.models.config import ModelConfig


class InputObserver:
    """Measures the inputs of one linear layer.

    Args:
        statistics: what to measure.
    """

    def __init__(self, statistics: tuple[Statistic, ...]) -> None:
        self.statistics = statistics
        self.maxima: Tensor | None = None
        self.squares: Tensor | None = None
        self.moments: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Measure x [..., in] and return it."""
        rows = x.reshape(-1, x.shape[-1])
        if "maxima" in self.statistics:
            found = rows.abs().amax(0)
            self.maxima = found if self.maxima is None else torch.maximum(self.maxima, found)
        if "squares" in self.statistics:
            found = rows.square().sum(0)
            self.squares = found if self.squares is None else self.squares + found
        if "moments" in self.statistics:
            found = second_moments(rows)
            self.moments = found if self.moments is None else self.moments + found
        return x

    def result(self) -> InputStatistics:
        """Return what was measured, and forget it: the model's layers hold the observers."""
        measured = (self.maxima, self.squares, self.moments)
        found = InputStatistics(*(None if x is None else x.numpy() for x in measured))
        self.maxima = self.squares = self.moments = None
        return found


class KvObserver:
    """Measures the keys and values of every cache.

    Args:
        config: of the model that is measured.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.rotary_dims = [config.layers[layer].rotary.dim for layer in config.cached_layers]
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def rounding(self) -> AttentionRounding:
        """Return what measures and rounds nothing."""
        return AttentionRounding(lambda cache, query: query, self._measure)

    def _measure(self, cache: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Measure key and value [B, S, K, D] of a cache, the key rotated, and return both."""
        lengths = _pair_lengths(key, self.rotary_dims[cache])
        for bounds, sizes in ((self.keys, lengths), (self.values, value.abs())):
            found = sizes.amax(dim=(0, 1))  # [K, D]
            bounds[cache] = torch.maximum(bounds[cache], found) if cache in bounds else found
        return key, value

    def result(self) -> KvBounds:
        """Return the bounds of all caches."""
        keys, values = (
            tuple(bounds[cache].numpy() for cache in sorted(bounds))
            for bounds in (self.keys, self.values)
        )
        return KvBounds(keys, values)


def _pair_lengths(key: Tensor, rotary_dim: int) -> Tensor:
    """Return for each channel the largest value that rotation can give it, [B, S, K, D].

    Channels i and i + dim / 2 turn against each other, so neither leaves the length of the pair.
    """
    first, second = key[..., :rotary_dim].chunk(2, dim=-1)
    length = torch.hypot(first, second)
    return torch.cat((length, length, key[..., rotary_dim:].abs()), dim=-1)
