"""Attention in blocks is attention: outputs and gradients, for each family with windows."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.models.config import ModelConfig
from pocketlm.models.layers import FullAttention
from pocketlm.training.banded_attention import BandedAttention


def gradients(step: FullAttention, config: ModelConfig, inputs: list[Tensor]) -> list[Tensor]:
    """Return what layer 0 gives, and the gradients of a sum over it with weights of chance."""
    leaves = [part.clone().requires_grad_() for part in inputs]
    found = step.attend(0, *leaves)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (found * weights).sum().backward()
    return [found.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("family", ["gemma3_text", "gemma2"])
@pytest.mark.parametrize("whole_blocks", [3, 4])
@pytest.mark.parametrize("more", [0, 1, -1])
def test_blocks_change_nothing(
    tiny_checkpoint: Callable[[str], Path], family: str, whole_blocks: int, more: int
) -> None:
    config = open_checkpoint(tiny_checkpoint(family)).config
    layer = config.layers[0]
    assert layer.window is not None
    tokens = whole_blocks * layer.window + more
    random = torch.Generator().manual_seed(0)
    shared = layer.num_key_value_heads
    heads = (layer.num_attention_heads, shared, shared)
    inputs = [torch.randn(2, tokens, n, layer.head_dim, generator=random) for n in heads]
    step = BandedAttention(config, tokens)
    assert layer.window in step.bands
    ours = gradients(step, config, inputs)
    theirs = gradients(FullAttention(config, tokens), config, inputs)
    for mine, reference in zip(ours, theirs, strict=True):
        # float32, sums of the same numbers in another order.
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)


def test_a_window_near_the_length_is_not_cut(tiny_checkpoint: Callable[[str], Path]) -> None:
    config = open_checkpoint(tiny_checkpoint("gemma3_text")).config
    window = config.layers[0].window
    assert window is not None
    assert BandedAttention(config, 2 * window).bands == {}
