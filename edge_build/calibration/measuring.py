"""Observers that a model's layers call with their inputs, keys and values, and never change."""

import numpy as np
import torch
from torch import Tensor

from pocketlm.edge_build.calibration.measured import InputStatistics, KvBounds, Statistic


class InputObserver:
    """Measures the inputs of one linear layer.

    Args:
        statistics: what to measure.
    """

    def __init__(self, statistics: tuple[Statistic, ...]) -> None:
        self.statistics = statistics
        self.maxima: Tensor | None = None
        self.moments: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Measure x [..., in] and return it."""
        rows = x.reshape(-1, x.shape[-1])
        if "maxima" in self.statistics:
            found = rows.abs().amax(0)
            self.maxima = found if self.maxima is None else torch.maximum(self.maxima, found)
        if "moments" in self.statistics:
            found = rows.T @ rows
            self.moments = found if self.moments is None else self.moments + found
        return x

    def result(self) -> InputStatistics:
        """Return what was measured."""
        numbers = (None if x is None else x.numpy() for x in (self.maxima, self.moments))
        return InputStatistics(*numbers)


class KvObserver:
    """Measures the keys and values of every layer."""

    def __init__(self) -> None:
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Measure key and value [B, S, K, D] of a layer, the key rotated, and return all three."""
        for bounds, sizes in ((self.keys, _pair_lengths(key)), (self.values, value.abs())):
            found = sizes.amax(dim=(0, 1))  # [K, D]
            bounds[layer] = torch.maximum(bounds[layer], found) if layer in bounds else found
        return query, key, value

    def result(self) -> KvBounds:
        """Return the bounds of all layers."""
        keys, values = (
            np.stack([bounds[layer].numpy() for layer in sorted(bounds)])
            for bounds in (self.keys, self.values)
        )
        return KvBounds(keys, values)


def _pair_lengths(key: Tensor) -> Tensor:
    """Return for each channel the largest value that rotation can give it, [B, S, K, D].

    Channels i and i + D / 2 turn against each other, so neither leaves the length of the pair.
    """
    first, second = key.chunk(2, dim=-1)
    return torch.hypot(first, second).repeat(1, 1, 1, 2)
