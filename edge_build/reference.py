"""The eager model that artifacts are held against: same codes, same rounding of activations, keys
and values.

It keeps every key and value and masks by position, so it shares no ring arithmetic with what it
judges. Weights are dequantized block by block while they are used: memory follows one block.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from edge_build.kv_scales import KvScales
from edge_build.quantization.activations import (
    AttentionRounding,
    activation_block,
    attention_rounding,
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
from runtime_py.manifest import ActivationQuantization, AttentionQuantization

# Elements of a weight that are dequantized at once.
_BLOCK_ELEMENTS = 1 << 22
# A smaller weight is dequantized once and kept: 4 MB, while a whole small model is a few hundred.
_KEPT_ELEMENTS = 1 << 20
# Above this many parameters a token at a time takes too long: each of hundreds of steps unpacks the
# model, up to 9 ns a weight on a busy machine. At the limit 256 steps are 37 s.
LARGE_PARAMETERS = 16_000_000

FakeQuantize = Callable[[Tensor], Tensor]


@contextmanager
def reference_threads(parameters: int) -> Iterator[None]:
    """Run a small model on one thread: its products are too short to share."""
    threads = torch.get_num_threads()
    try:
        if parameters <= LARGE_PARAMETERS:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


class ReferenceLinear(nn.Module):
    """x @ weight.T from the store, activations rounded as the runtime's kernel rounds them."""

    def __init__(self, weights: WeightStore, name: str, fake_quantize: FakeQuantize | None) -> None:
        super().__init__()
        self.weights, self.name = weights, name
        self.fake_quantize = fake_quantize
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.fake_quantize is not None:
            x = _with_rest(self.fake_quantize(x[:1]), x)
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


def _with_rest(rounded: Tensor, batch: Tensor) -> Tensor:
    """Return [B, ...] with the first rounded: a second is the same sequence without rounding."""
    return torch.cat((rounded, batch[1:])) if len(batch) > 1 else rounded


class ReferenceEmbedding(nn.Module):
    """Rows of the stored table."""

    def __init__(self, weights: WeightStore) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, tokens: Tensor) -> Tensor:
        rows = [self.weights.rows("embed_tokens", t, t + 1) for t in tokens.flatten().tolist()]
        return torch.from_numpy(np.concatenate(rows)).reshape(*tokens.shape, -1)


class ReferenceModel:
    """A Decoder over a WeightStore, with all keys and values of one sequence kept.

    Args:
        activations, attention: what the runtime rounds.
        kv_scales: of "kv_per_channel".
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: WeightStore,
        activations: ActivationQuantization,
        attention: AttentionQuantization = "none",
        kv_scales: KvScales | None = None,
    ) -> None:
        self.config = config
        self.rounds_activations = activations != "none"
        self.rounds = self.rounds_activations or attention != "none"
        self.rounding = attention_rounding(attention, kv_scales)
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
        new = torch.arange(self.position, self.position + len(tokens))
        step = _KeepEverything(self.config, self.past, new, self.rounding)
        hidden = self.decoder.hidden(torch.tensor([list(tokens)]), step)
        self.past = step.present
        logits: Tensor = self.decoder.logits(hidden[:, -(rows or len(tokens)) :])
        return logits[0]

    @torch.no_grad()
    def hidden(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        rows: Sequence[int],
        *,
        with_exact: bool = False,
    ) -> Tensor:
        """Process a whole sequence from an empty model, which stays empty.

        Args:
            positions: of each token, ascending. A position without a token holds a key and a value
                of zeros, as caches do before anything is written.
            rows: indices of the tokens that are wanted.
            with_exact: process it twice at once, the second time without rounding, so that weights
                are dequantized once for both; once if the model does not round.

        Returns:
            [1 or 2, rows, E] float32, for `logits`; rounded first.
        """
        batch = [list(tokens)] * (2 if with_exact and self.rounds else 1)
        step = _KeepEverything(self.config, [], torch.tensor(list(positions)), self.rounding)
        hidden: Tensor = self.decoder.hidden(torch.tensor(batch), step)
        return hidden[:, list(rows)]

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits [B, rows, V] of some rows of `hidden`."""
        logits: Tensor = self.decoder.logits(hidden)
        return logits


class _KeepEverything:
    """An AttentionStep over all keys and values since position 0, rounded when they were new.

    Positions before `new` that have no key are slots of zeros. Each scores 0 and adds nothing, so
    that n of them weigh as one whose score is log n.
    """

    def __init__(
        self,
        config: ModelConfig,
        past: list[tuple[Tensor, Tensor]],
        new: Tensor,
        rounding: AttentionRounding,
    ) -> None:
        self.config, self.past, self.rounding = config, past, rounding
        self.present: list[tuple[Tensor, Tensor]] = []
        before = past[0][0].shape[1] if past else 0
        every = torch.cat((torch.arange(before), new))
        self.has_zeros = len(every) <= int(new[-1])
        self.masks = {window: self._mask(new, every, window) for window in config.windows}
        self.tables = {
            layer: rotary_tables(new, inverse_frequencies(layer, config.head_dim))
            for layer in dict.fromkeys(config.layers)
        }

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        settings = self.config.layers[layer]
        cosines, sines = self.tables[settings]
        query, key = rotate(query, cosines, sines), rotate(key, cosines, sines)
        rounded = self.rounding(layer, query[:1], key[:1], value[:1])
        query, key, value = map(_with_rest, rounded, (query, key, value))
        if self.past:
            key = torch.cat((self.past[layer][0], key), dim=1)
            value = torch.cat((self.past[layer][1], value), dim=1)
        self.present.append((key, value))
        if self.has_zeros:
            key, value = _with_zeros(key), _with_zeros(value)
        return softmax_attention(
            query,
            key,
            value,
            self.masks[settings.window],
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


def _with_zeros(x: Tensor) -> Tensor:
    """Return [B, S, K, D] with one slot of zeros at the end."""
    return torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 1))


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
