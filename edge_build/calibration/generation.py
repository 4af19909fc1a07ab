"""A model's own text: what it is calibrated on where its user gives none.

Liu et al., "LLM-QAT: Data-Free Quantization Aware Training for Large Language Models", arXiv
2305.17888: a model's samples show the inputs that it will meet better than foreign text does.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pocketlm.edge_build.calibration.float_weights import FloatWeights
from pocketlm.edge_build.calibration.measured import Sequences
from pocketlm.edge_build.reference import eager_decoder
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.models.config import ModelConfig
from pocketlm.models.layers import (
    inverse_frequencies,
    rotary_tables,
    rotate,
    softmax_attention,
    visible,
)

# A weight is read once for all sequences, so many short ones cost less than a few long ones.
GENERATED_SEQUENCES = 64
GENERATED_LENGTH = 256
_SEED = 1


@torch.no_grad()
def generate(
    checkpoint: Checkpoint,
    first: int,
    tokenizer_size: int,
    length: int,
    advance: Callable[[int, int], None],
) -> Sequences:
    """Sample sequences at temperature 1 from the float model, all at once.

    Args:
        first: the token that each begins with.
        tokenizer_size: ids that mean something; no others are sampled.
        length: tokens of each.
        advance: called with the tokens of each that are there, and `length`.

    Raises:
        BuildError: a weight is not finite.
    """
    step = _BatchStep(checkpoint.config)
    decoder = eager_decoder(checkpoint.config, FloatWeights(checkpoint), lambda name: (None,))
    random = torch.Generator().manual_seed(_SEED)
    tokens = torch.full((GENERATED_SEQUENCES, 1), first)
    while tokens.shape[1] < length:
        step.advance(tokens.shape[1] - 1)
        # As if they followed each other: a weight multiplies all of them at once.
        logits = decoder.logits(decoder.hidden(tokens[:, -1][None], step))[0, :, :tokenizer_size]
        chosen = torch.multinomial(torch.softmax(logits, -1), 1, generator=random)
        tokens = torch.cat((tokens, chosen), dim=1)
        advance(tokens.shape[1], length)
    return tuple(map(tuple, tokens.tolist()))


class _BatchStep:
    """An AttentionStep over the next token of equally long sequences, which comes as [1, B]."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.position = 0

    def advance(self, position: int) -> None:
        """Go to a position."""
        self.position = position
        now = torch.tensor([position])
        every = torch.arange(position + 1)
        self.masks = {window: visible(now, every, window) for window in self.config.windows}
        self.tables = {
            rotary: rotary_tables(now, inverse_frequencies(rotary))
            for rotary in self.config.rotaries
        }

    def attend(self, layer: int, query: Tensor, key: Tensor | None, value: Tensor | None) -> Tensor:
        settings = self.config.layers[layer]
        tables = self.tables[settings.rotary]
        if settings.kv_from is None:
            assert key is not None and value is not None, "a layer of its own keys and values"
            new = (rotate(key.transpose(0, 1), *tables), value.transpose(0, 1))  # [B, 1, K, D]
            before = self.kept.get(layer)
            self.kept[layer] = new if before is None else _joined(before, new)
        keys, values = self.kept[layer if settings.kv_from is None else settings.kv_from]
        attended = softmax_attention(
            rotate(query.transpose(0, 1), *tables),
            keys,
            values,
            self.masks[settings.window],
            self.config.attention_scale,
            self.config.attention_softcap,
        )
        return attended.transpose(0, 1)


def _joined(
    before: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:  # [B, S, K, D]
    return torch.cat((before[0], new[0]), dim=1), torch.cat((before[1], new[1]), dim=1)
