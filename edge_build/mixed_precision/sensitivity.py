"""What the float model loses when one weight alone is rounded, measured on a text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.edge_build.calibration.float_weights import FloatWeights
from pocketlm.edge_build.calibration.measured import NO_INPUT_STATISTICS, Sequences
from pocketlm.edge_build.calibration.running import measure
from pocketlm.edge_build.quantization.activations import attention_rounding
from pocketlm.edge_build.quantization.methods import round_to_nearest
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.reference import ReferenceEmbedding, ReferenceLinear, eager_decoder
from pocketlm.edge_build.reference_attention import KeepEverything, Packed
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.models.decoder import Decoder

# Tokens of the text, and those of them whose predictions are compared: a row of logits is a
# megabyte where the vocabulary is a quarter of a million.
SENSITIVITY_TOKENS = 1024
_ROWS = 256
# Elements of a weight that are rounded at once.
_BLOCK_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Sensitivity:
    """Of one weight.

    Attributes:
        kl_nats: mean KL divergence with this weight rounded to `base`, all others float.
        errors: for each scheme, the squared error of the weight, each column counted as the
            squares of its inputs.
    """

    base: QuantScheme
    kl_nats: float
    errors: dict[QuantScheme, float] = field(default_factory=dict)

    def predicted(self, scheme: QuantScheme) -> float:
        """Return the KL of another scheme: it grows as the error does."""
        if self.errors[self.base] == 0:
            return 0.0
        return self.kl_nats * self.errors[scheme] / self.errors[self.base]


@dataclass(frozen=True)
class _Rounded:
    """EagerWeights of which one is rounded to nearest."""

    weights: FloatWeights
    scheme: QuantScheme

    def head_name(self) -> str:
        return self.weights.head_name()

    def shape(self, name: str) -> tuple[int, ...]:
        return self.weights.shape(name)

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        return _rounded(torch.from_numpy(self.weights.rows(name, start, stop)), self.scheme).numpy()

    def floating(self, name: str) -> NDArray[np.float32]:
        return self.weights.floating(name)


class _FloatRun:
    """The float model over a text: the input of every layer, and what it predicts."""

    def __init__(self, checkpoint: Checkpoint, sequences: Sequences) -> None:
        self.config = checkpoint.config
        self.weights = FloatWeights(checkpoint)
        self.decoder: Decoder = eager_decoder(self.config, self.weights, lambda name: (None,))
        self.lengths = [len(tokens) for tokens in sequences]
        self.tokens = torch.tensor([[token for tokens in sequences for token in tokens]])
        self.places = torch.linspace(0, self.tokens.shape[1] - 1, _ROWS).long().unique()
        self.before: list[Tensor] = []
        self.predicted = self._predictions(self._table(self.decoder), 0, self.before.append)

    def kl(self, name: str, scheme: QuantScheme) -> float:
        """Return the mean KL divergence with one weight rounded."""
        rounded = _Rounded(self.weights, scheme)
        is_table, is_head = name == "embed_tokens", name == self.weights.head_name()
        first = self.config.num_layers if is_head else 0
        if name.startswith("layers."):
            first = int(name.split(".")[1])
            first = first if self._stands_alone(first) else 0
        replaced = {"lm_head"} if is_head else ({name} - {"embed_tokens"})
        originals = {one: self.decoder.get_submodule(one) for one in replaced}
        for one in replaced:
            self.decoder.set_submodule(one, ReferenceLinear(rounded, name, (None,)))
        try:
            start = self.before[first] if not is_table else None
            if start is None:
                table = ReferenceEmbedding(rounded)(self.tokens)
                start, first = table * self.config.embedding_scale, 0
            found = self._predictions(start, first)
        finally:
            for one, module in originals.items():
                self.decoder.set_submodule(one, module)
        expected = self.predicted
        kl = (expected.exp() * (expected - found)).sum(-1, dtype=torch.float64)
        return max(0.0, float(kl.mean()))

    def _table(self, decoder: Decoder) -> Tensor:
        embedded: Tensor = decoder.embed_tokens(self.tokens) * self.config.embedding_scale
        return embedded

    def _stands_alone(self, first: int) -> bool:
        """Say whether no later layer reads keys and values from before a layer."""
        later = self.config.layers[first:]
        return all(layer.kv_from is None or layer.kv_from >= first for layer in later)

    def _predictions(
        self, x: Tensor, first: int, keep: Callable[[Tensor], None] = lambda x: None
    ) -> Tensor:
        """Return log probabilities [places, V] of a residual stream before layer `first`."""
        unrounded = attention_rounding("none", None)
        steps = [
            KeepEverything(self.config, None, torch.arange(length), (unrounded,))
            for length in self.lengths
        ]
        packed = Packed(steps, self.lengths, lambda layer: None)
        for layer in self.decoder.layers[first:]:
            keep(x)
            x = layer(x, packed)
        keep(x)
        return torch.log_softmax(self.decoder.logits(x[:, self.places])[0], -1)


@torch.no_grad()
def measure_sensitivities(
    checkpoint: Checkpoint,
    sequences: Sequences,
    schemes: dict[str, tuple[QuantScheme, ...]],
    folder: Path,
    report: Callable[[int, int, str], None],
) -> dict[str, Sensitivity]:
    """Measure each weight at its first scheme, and compare its other schemes with that.

    Memory: the input of every layer for all tokens, and 256 rows of logits, twice.

    Args:
        schemes: of each weight.
        folder: for statistics, which are written there.
        report: called with (done, of, weight).

    Raises:
        BuildError: a weight is not finite.
    """
    total = len(schemes)
    report(0, total, "float model")
    statistics = measure(checkpoint, sequences, ("squares",), folder)
    run = _FloatRun(checkpoint, sequences)
    found = {}
    for done, (name, offered) in enumerate(schemes.items()):
        report(done, total, name)
        squares = statistics.inputs(name).squares
        importance = None if squares is None else torch.from_numpy(np.array(squares))
        errors = {scheme: _error(run.weights, name, scheme, importance) for scheme in offered}
        found[name] = Sensitivity(offered[0], run.kl(name, offered[0]), errors)
    report(total, total, "weights")
    return found


def _error(
    weights: FloatWeights, name: str, scheme: QuantScheme, importance: Tensor | None
) -> float:
    rows, columns = weights.shape(name)
    step, error = max(1, _BLOCK_ELEMENTS // columns), 0.0
    for start in range(0, rows, step):
        block = torch.from_numpy(weights.rows(name, start, start + step))
        squared = (block - _rounded(block, scheme)).square().sum(0, dtype=torch.float64)
        error += float(squared.sum() if importance is None else squared @ importance.double())
    return error


def _rounded(weight: Tensor, scheme: QuantScheme) -> Tensor:
    codes, scales = round_to_nearest.prepare(scheme, NO_INPUT_STATISTICS)(weight)
    grouped = codes.reshape(*scales.shape, -1).float() * scales.unsqueeze(-1)
    return grouped.reshape(weight.shape)
