"""What a backend rounds while it runs, with gradients that pass as if it did not."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pocketlm.edge_build.quantization.activations import AttentionRounding
from pocketlm.models.config import ModelConfig
from pocketlm.training.banded_attention import BandedAttention


def straight_through(x: Tensor, rounding: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Return x rounded; its gradient is that of x."""
    if rounding is None:
        return x
    with torch.no_grad():
        lost = rounding(x) - x
    return x + lost


class RoundedAttention(BandedAttention):
    """Attention over all tokens at once, of queries, keys and values as a runtime rounds them."""

    def __init__(self, config: ModelConfig, tokens: int, rounding: AttentionRounding) -> None:
        super().__init__(config, tokens)
        self.rounding = rounding

    def queried(self, layer: int, query: Tensor) -> Tensor:
        return straight_through(query, partial(self.rounding.query, self.config.cache_of(layer)))

    def stored(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            pair = self.rounding.key_value(self.config.cache_of(layer), key, value)
            lost = [rounded - whole for rounded, whole in zip(pair, (key, value), strict=True)]
        return key + lost[0], value + lost[1]
