"""Attention over all tokens at once that computes only the scores near each window."""

import torch
from torch import Tensor
from torch.nn import functional

from pocketlm.models.config import ModelConfig
from pocketlm.models.layers import FullAttention, softmax_attention, visible


class BandedAttention(FullAttention):
    """FullAttention in blocks where a window is much shorter than the tokens.

    Attributes:
        bands: a window W → what queries of each block of W see of their own block and of the one
            before it: [blocks, 1, 1, W, 2 * W] bool.
    """

    def __init__(self, config: ModelConfig, tokens: int) -> None:
        super().__init__(config, tokens)
        self.bands = {
            window: _band(tokens, window)
            for window in config.windows
            if window is not None and 2 * window < tokens
        }

    def attended(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        if window not in self.bands:
            return super().attended(query, key, value, window)
        assert window is not None
        batch, tokens = query.shape[:2]
        mask = self.bands[window].repeat(batch, 1, 1, 1, 1)
        found = softmax_attention(
            _blocks(query, window).flatten(0, 1),
            _pairs(key, window),
            _pairs(value, window),
            mask,
            self.config.attention_scale,
            self.config.attention_softcap,
        )
        return found.reshape(batch, -1, *query.shape[2:])[:, :tokens]


def _blocks(x: Tensor, window: int) -> Tensor:
    """[B, T, heads, D] → [B, blocks, W, heads, D], zeros after the last token."""
    padded = functional.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % window))
    return padded.unflatten(1, (-1, window))


def _pairs(x: Tensor, window: int) -> Tensor:
    """[B, T, heads, D] → [B * blocks, 2 * W, heads, D]: each block after the one before it."""
    blocks = _blocks(x, window)
    before = functional.pad(blocks, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]
    return torch.cat((before, blocks), dim=2).flatten(0, 1)


def _band(tokens: int, window: int) -> Tensor:
    starts = torch.arange(0, tokens, window)
    own, seen = torch.arange(window), torch.arange(-window, window)
    masks = [visible(start + own, start + seen, window) for start in starts]
    return torch.stack(masks)[:, None, None]
