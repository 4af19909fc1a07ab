"""The eager model that artifacts are held against: same codes, same activation quantization.

It keeps every key and value and masks by position, so it shares no ring arithmetic with what it
judges. Weights are dequantized block by block while they are used: memory follows one block.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edge_build.quantization.activations import (
    activation_block,
    quantize_per_block_symmetric,
    quantize_per_token_asymmetric,
)
from edge_build.quantization.weight import WeightStore
from models.config import ModelConfig
from models.decoder import Decoder
from models.layers import (
    RMSNorm,
    inverse_frequencies,
    rotary_tables,
    rotate,
    softmax_attention,
    visible,
)
from runtime_py.manifest import ActivationQuantization

# Elements of a weight that are dequantized at once.
_BLOCK_ELEMENTS = 1 << 22
# A smaller weight is dequantized once and kept: 4 MB, while a whole small model is a few hundred.
_KEPT_ELEMENTS = 1 << 20

FakeQuantize = Callable[[Tensor], Tensor]


class ReferenceLinear(nn.Module):
    """x @ weight.T from the store, activations rounded as the runtime's kernel rounds them."""

    def __init__(self, weights: WeightStore, name: str, fake_quantize: FakeQuantize | None) -> None:
        super().__init__()
        self.weights, self.name = weights, name
        self.fake_quantize = fake_quantize
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.fake_quantize is not None:
            x = self.fake_quantize(x)
        return torch.cat([nn.functional.linear(x, block) for block in self._blocks()], dim=-1)

    def _blocks(self) -> Iterable[Tensor]:
        """Return the weight in blocks of rows, float32."""
        if self.kept is not None:
            return (self.kept,)
        rows, columns = self.weights.shape(self.name)
        if rows * columns <= _KEPT_ELEMENTS:
            self.kept = self._rows(0, rows)
            return (self.kept,)
        step = max(1, _BLOCK_ELEMENTS // columns)
        return (self._rows(start, start + step) for start in range(0, rows, step))

    def _rows(self, start: int, stop: int) -> Tensor:
        return torch.from_numpy(self.weights.rows(self.name, start, stop))


class ReferenceEmbedding(nn.Module):
    """Rows of the stored table."""

    def __init__(self, weights: WeightStore) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, tokens: Tensor) -> Tensor:
        rows = [self.weights.rows("embed_tokens", t, t + 1) for t in tokens.flatten().tolist()]
        return torch.from_numpy(np.concatenate(rows)).reshape(*tokens.shape, -1)


class ReferenceModel:
    """A Decoder over a WeightStore, with all keys and values of one sequence kept."""

    def __init__(
        self, config: ModelConfig, weights: WeightStore, activations: ActivationQuantization
    ) -> None:
        self.config = config
        with torch.device("meta"):
            decoder = Decoder(config)
        self.decoder = _with_stored_weights(decoder, weights, activations)
        self.past: list[tuple[Tensor, Tensor]] = []

    @property
    def position(self) -> int:
        return self.past[0][0].shape[1] if self.past else 0

    def reset(self) -> None:
        """Forget the sequence."""
        self.past = []

    @torch.no_grad()
    def run(self, tokens: Sequence[int], rows: int | None = None) -> Tensor:
        """Process tokens after those already seen.

        Args:
            rows: how many of the last tokens' logits are wanted; None is all. A row of a large
                vocabulary is a megabyte.

        Returns:
            [rows, V] float32.
        """
        step = _KeepEverything(self.config, self.past, self.position, len(tokens))
        hidden = self.decoder.hidden(torch.tensor([list(tokens)]), step)
        self.past = step.present
        logits: Tensor = self.decoder.logits(hidden[:, -(rows or len(tokens)) :])[0]
        return logits


class _KeepEverything:
    """An AttentionStep over all keys and values since position 0."""

    def __init__(
        self, config: ModelConfig, past: list[tuple[Tensor, Tensor]], position: int, tokens: int
    ) -> None:
        self.config, self.past = config, past
        self.present: list[tuple[Tensor, Tensor]] = []
        new = torch.arange(position, position + tokens)
        every = torch.arange(position + tokens)
        self.masks = {window: visible(new, every, window) for window in config.windows}
        self.tables = {
            layer: rotary_tables(new, inverse_frequencies(layer, config.head_dim))
            for layer in dict.fromkeys(config.layers)
        }

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        settings = self.config.layers[layer]
        cosines, sines = self.tables[settings]
        key = rotate(key, cosines, sines)
        if self.past:
            key = torch.cat((self.past[layer][0], key), dim=1)
            value = torch.cat((self.past[layer][1], value), dim=1)
        self.present.append((key, value))
        return softmax_attention(
            rotate(query, cosines, sines),
            key,
            value,
            self.masks[settings.window],
            self.config.attention_scale,
            self.config.attention_softcap,
        )


def _with_stored_weights(
    decoder: Decoder, weights: WeightStore, activations: ActivationQuantization
) -> Decoder:
    for name, module in list(decoder.named_modules()):
        if isinstance(module, nn.Embedding):
            decoder.set_submodule(name, ReferenceEmbedding(weights))
        elif isinstance(module, nn.Linear):
            stored = weights.head_name() if name == "lm_head" else name
            fake_quantize = _fake_quantize(weights, stored, activations)
            decoder.set_submodule(name, ReferenceLinear(weights, stored, fake_quantize))
        elif isinstance(module, RMSNorm):
            norm = RMSNorm(module.size, module.eps)
            norm.weight = nn.Parameter(
                torch.from_numpy(weights.floating(name).copy()), requires_grad=False
            )
            decoder.set_submodule(name, norm)
    return decoder.eval()


def _fake_quantize(
    weights: WeightStore, name: str, activations: ActivationQuantization
) -> FakeQuantize | None:
    scheme = weights.schemes[name]
    if scheme is None or activations == "none":
        return None
    if activations == "per_token_asymmetric":
        return quantize_per_token_asymmetric
    block = activation_block(scheme)
    return lambda x: quantize_per_block_symmetric(x, block)
