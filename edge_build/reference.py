"""The eager model that artifacts are compared with: same codes, same rounding of activations, keys
and values.

It keeps every key and value and masks by position, so it shares no ring arithmetic with the
artifacts. Weights are dequantized block by block while they are used: memory follows one block.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.quantization.activations import (
    Rounding,
    activation_block,
    attention_rounding,
    quantize_per_block_symmetric,
    quantize_per_token_asymmetric,
)
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference_attention import KeepEverything, Packed
from pocketlm.models.config import ModelConfig
from pocketlm.models.decoder import Decoder
from pocketlm.models.layers import RMSNorm
from pocketlm.runtime_py.manifest import ActivationQuantization, AttentionQuantization

# Elements of a weight that are dequantized at once.
_BLOCK_ELEMENTS = 1 << 22
# A smaller weight is dequantized once and kept: 4 MB, while a whole small model is a few hundred.
_KEPT_ELEMENTS = 1 << 20
# Above this many parameters a token at a time takes too long: each of hundreds of steps unpacks the
# model, up to 9 ns a weight on a busy machine. At the limit 256 steps are 37 s.
LARGE_PARAMETERS = 16_000_000

# What is done to a layer's input [T, in] before it is multiplied.
OnInput = Callable[[Tensor], Tensor]


class EagerWeights(Protocol):
    """What the eager model reads: a WeightStore, or a checkpoint as it is."""

    def head_name(self) -> str:
        """Return the weight that makes the logits."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape, [out, in] or [size]."""
        ...

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows start..stop; the caller owns them."""
        ...

    def floating(self, name: str) -> NDArray[np.float32]:
        """Return a float32 weight, [out, in] or [size]."""
        ...


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
    """x @ weight.T from the store, activations rounded as the runtimes' kernels round them.

    Args:
        roundings: one for each member of a batch; None rounds nothing.
    """

    def __init__(
        self, weights: EagerWeights, name: str, roundings: Sequence[OnInput | None]
    ) -> None:
        super().__init__()
        self.weights, self.name, self.roundings = weights, name, roundings
        self.rows, self.columns = weights.shape(name)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, in] → [B, T, out]; a block of the weight is unpacked once for the batch."""
        inputs = [
            member if rounding is None else rounding(member)
            for member, rounding in zip(x, self.roundings, strict=True)
        ]
        result = x.new_empty(*x.shape[:-1], self.rows)
        for start, block in self._blocks():
            for member, into in zip(inputs, result, strict=True):
                # Into its place: joining blocks afterwards would hold everything twice.
                torch.mm(member, block.T, out=into[:, start : start + len(block)])
        return result

    def _blocks(self) -> Iterable[tuple[int, Tensor]]:
        """Return first row and float32 values of each block of rows."""
        if self.kept is not None:
            return ((0, self.kept),)
        if self.rows * self.columns <= _KEPT_ELEMENTS:
            self.kept = self._unpacked(0, self.rows)
            return ((0, self.kept),)
        step = max(1, _BLOCK_ELEMENTS // self.columns)
        starts = range(0, self.rows, step)
        return ((start, self._unpacked(start, start + step)) for start in starts)

    def _unpacked(self, start: int, stop: int) -> Tensor:
        return torch.from_numpy(self.weights.rows(self.name, start, stop))


class ReferenceEmbedding(nn.Module):
    """Rows of the stored table."""

    def __init__(self, weights: EagerWeights) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, tokens: Tensor) -> Tensor:
        ids, inverse = tokens.unique(return_inverse=True)
        rows = [self.weights.rows("embed_tokens", t, t + 1) for t in ids.tolist()]
        return torch.from_numpy(np.concatenate(rows))[inverse]


class ReferenceModel:
    """A Decoder over a WeightStore, with all keys and values of one sequence kept.

    Args:
        activations, attention, whole: what the runtime rounds, as in Rounding.
        kv_scales: of "kv_per_channel".
        also: further ways to round, for `hidden`.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: WeightStore,
        activations: ActivationQuantization,
        attention: AttentionQuantization = "none",
        kv_scales: KvScales | None = None,
        *,
        whole: Sequence[int] = (),
        also: Sequence[Rounding] = (),
    ) -> None:
        self.config = config
        ways = (Rounding(activations, attention, tuple(whole)), *also)
        self.roundings = tuple(
            attention_rounding(way.attention, kv_scales, way.whole) for way in ways
        )
        kinds = [way.activations for way in ways]
        self.decoder = eager_decoder(
            config,
            weights,
            lambda name: [round_inputs(weights.schemes[name], kind) for kind in kinds],
        )
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
        assert len(self.roundings) == 1, "a sequence is kept in one way"
        new = torch.arange(self.position, self.position + len(tokens))
        step = KeepEverything(self.config, self.past, new, self.roundings)
        hidden = self.decoder.hidden(torch.tensor([list(tokens)]), step)
        self.past = step.present
        logits: Tensor = self.decoder.logits(hidden[:, -(rows or len(tokens)) :])
        return logits[0]

    @torch.no_grad()
    def hidden(
        self,
        sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
        advance: Callable[[int], None] = lambda layer: None,
    ) -> tuple[Tensor, ...]:
        """Process whole sequences from an empty model, which stays empty.

        They are read in every way to round at once, so that each weight is unpacked once for all.

        Args:
            sequences: tokens, and the positions of them, ascending. A position without a token
                holds a key and a value of zeros, as caches do before anything is written.
            advance: called with each layer when it is done, counted from 1.

        Returns:
            [ways, tokens, E] float32 for each sequence, for `logits`.
        """
        steps = [
            KeepEverything(self.config, None, torch.tensor(list(positions)), self.roundings)
            for _, positions in sequences
        ]
        packed = Packed(steps, [len(tokens) for tokens, _ in sequences], advance)
        tokens = torch.tensor([[token for tokens, _ in sequences for token in tokens]])
        hidden: Tensor = self.decoder.hidden(tokens.expand(len(self.roundings), -1), packed)
        advance(self.config.num_layers)
        return hidden.split(packed.lengths, dim=1)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits [ways, rows, V] of some rows of `hidden`."""
        logits: Tensor = self.decoder.logits(hidden)
        return logits


def eager_decoder(
    config: ModelConfig,
    weights: EagerWeights,
    on_inputs: Callable[[str], Sequence[OnInput | None]],
) -> Decoder:
    """Return a Decoder that reads its weights while it runs.

    Args:
        on_inputs: a stored linear weight's name → what is done to its inputs, for each member of a
            batch.
    """
    return assemble_decoder(
        config,
        weights,
        lambda name: ReferenceLinear(weights, name, on_inputs(name)),
        ReferenceEmbedding(weights),
    )


def assemble_decoder(
    config: ModelConfig,
    weights: EagerWeights,
    linear: Callable[[str], nn.Module],
    embedding: nn.Module,
) -> Decoder:
    """Return a Decoder of these layers, without weights of its own but for norms.

    Args:
        weights: of the norms.
        linear: a stored weight's name → what multiplies by it.
    """
    with torch.device("meta"):
        decoder = Decoder(config)
    for name, module in list(decoder.named_modules()):
        if isinstance(module, nn.Embedding):
            decoder.set_submodule(name, embedding)
        elif isinstance(module, nn.Linear):
            stored = weights.head_name() if name == "lm_head" else name
            decoder.set_submodule(name, linear(stored))
        elif isinstance(module, RMSNorm):
            norm = RMSNorm(module.size, module.eps)
            norm.weight = nn.Parameter(
                torch.from_numpy(weights.floating(name).copy()), requires_grad=False
            )
            decoder.set_submodule(name, norm)
    return decoder.eval()


def round_inputs(scheme: QuantScheme | None, activations: ActivationQuantization) -> OnInput | None:
    """Return what a runtime does to the inputs of a layer with weights of a scheme."""
    if scheme is None or activations == "none":
        return None
    if activations == "per_token_asymmetric":
        return quantize_per_token_asymmetric
    block = activation_block(scheme)
    return lambda x: quantize_per_block_symmetric(x, block)
