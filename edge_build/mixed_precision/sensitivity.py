"""What the float model loses when one weight alone is rounded, measured on a text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketlm.edge_build.calibration.float_weights import FloatWeights
from pocketlm.edge_build.calibration.measured import (
    NO_INPUT_STATISTICS,
    CalibrationStore,
    Sequences,
)
from pocketlm.edge_build.calibration.running import measure
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.activations import attention_rounding
from pocketlm.edge_build.quantization.methods import Quantize, round_to_nearest
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.reference import ReferenceLinear, eager_decoder
from pocketlm.edge_build.reference_attention import KeepEverything, Packed
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.models.decoder import Decoder

# Tokens of the text, and those of them whose predictions are compared: a row of logits is a
# megabyte where the vocabulary is a quarter of a million.
SENSITIVITY_TOKENS = 512
SENSITIVITY_ROWS = 128
# Sequences that methods are given statistics of; the first is the one that is compared.
STATISTICS_SEQUENCES = 16
# Weights whose predictions are made at once: the head is read once for all of them.
WEIGHTS_TOGETHER = 4
# Elements of a weight that are rounded at once.
_BLOCK_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Sensitivity:
    """Of one weight.

    Attributes:
        kl_nats: mean KL divergence with this weight quantized to `base`, all others float.
        errors: for each scheme, the squared error of the weight rounded to nearest, each column
            counted as the squares of its inputs.
    """

    base: QuantScheme
    kl_nats: float
    errors: dict[QuantScheme, float] = field(default_factory=dict)

    def predicted(self, scheme: QuantScheme) -> float:
        """Return the KL of another scheme: it grows as the error does."""
        if self.errors[self.base] == 0:
            return 0.0
        return self.kl_nats * (self.errors[scheme] / self.errors[self.base])


@dataclass(frozen=True)
class _Rounded:
    """EagerWeights of which one is quantized, block by block as it is read."""

    weights: FloatWeights
    quantize: Quantize

    def head_name(self) -> str:
        return self.weights.head_name()

    def shape(self, name: str) -> tuple[int, ...]:
        return self.weights.shape(name)

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        return _restored(
            torch.from_numpy(self.weights.rows(name, start, stop)), self.quantize
        ).numpy()

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
        self.places = torch.linspace(0, self.tokens.shape[1] - 1, SENSITIVITY_ROWS).long().unique()
        self.before: list[Tensor] = []
        table = self.decoder.embed_tokens(self.tokens)
        self.last = self._run(table * self.config.embedding_scale, 0, self.before.append)
        self.predicted = self._predictions(self.last)

    def losses(self, quantized: Mapping[str, Quantize]) -> dict[str, float]:
        """Return the mean KL divergence with each of some weights of layers quantized alone."""
        streams = [self._quantized_layer(*one) for one in quantized.items()]
        found = self._predictions(torch.cat(streams)).chunk(len(streams))
        return {name: self._kl(part) for name, part in zip(quantized, found, strict=True)}

    def table_loss(self, name: str, quantize: Quantize) -> float:
        """Return the mean KL divergence with the table, the head or what is both quantized."""
        rounded, last = _Rounded(self.weights, quantize), self.last
        if name == "embed_tokens":
            last = self._run(self._looked_up(quantize) * self.config.embedding_scale, 0)
        if name != self.weights.head_name():
            return self._kl(self._predictions(last))
        with self._replaced("lm_head", ReferenceLinear(rounded, name, (None,))):
            return self._kl(self._predictions(last))

    def _looked_up(self, quantize: Quantize) -> Tensor:
        """Return the quantized rows of the text's tokens, [1, T, E]."""
        ids, inverse = self.tokens.unique(return_inverse=True)
        # In one block: a method works through all columns, however few the rows.
        rows = [self.weights.rows("embed_tokens", t, t + 1) for t in ids.tolist()]
        return _restored(torch.from_numpy(np.concatenate(rows)), quantize)[inverse]

    def _quantized_layer(self, name: str, quantize: Quantize) -> Tensor:
        """Return the residual stream at the compared places, [places, E]."""
        layer = int(name.split(".")[1])
        first = layer if self._stands_alone(layer) else 0
        linear = ReferenceLinear(_Rounded(self.weights, quantize), name, (None,))
        with self._replaced(name, linear):
            return self._run(self.before[first], first)

    @contextmanager
    def _replaced(self, name: str, module: nn.Module) -> Iterator[None]:
        original = self.decoder.get_submodule(name)
        self.decoder.set_submodule(name, module)
        try:
            yield
        finally:
            self.decoder.set_submodule(name, original)

    def _stands_alone(self, first: int) -> bool:
        """Say whether no later layer reads keys and values from before a layer."""
        later = self.config.layers[first:]
        return all(layer.kv_from is None or layer.kv_from >= first for layer in later)

    def _run(
        self, x: Tensor, first: int, keep: Callable[[Tensor], None] = lambda x: None
    ) -> Tensor:
        """Return the residual stream at the compared places, [places, E]; x is before a layer."""
        unrounded = attention_rounding("none", None)
        steps = [
            KeepEverything(self.config, None, torch.arange(length), (unrounded,))
            for length in self.lengths
        ]
        packed = Packed(steps, self.lengths, lambda layer: None)
        for layer in self.decoder.layers[first:]:
            keep(x)
            x = layer(x, packed)
        return x[0, self.places]

    def _predictions(self, x: Tensor) -> Tensor:
        """Return log probabilities [rows, V] of rows [rows, E] of the residual stream."""
        return torch.log_softmax(self.decoder.logits(x[None])[0], -1)

    def _kl(self, found: Tensor) -> float:
        expected = self.predicted
        kl = (expected.exp() * (expected - found)).sum(-1, dtype=torch.float64)
        return max(0.0, float(kl.mean()))


class Kept(Protocol):
    """Where sensitivities are kept that an earlier run measured."""

    def read(self, name: str) -> Sensitivity | None:
        """Return that of a weight, if it is there."""
        ...

    def write(self, name: str, found: Sensitivity) -> None:
        """Keep that of a weight."""
        ...


@torch.no_grad()
def measure_sensitivities(
    checkpoint: Checkpoint,
    sequences: Sequences,
    schemes: Mapping[str, tuple[QuantScheme, ...]],
    folder: Path,
    kept: Kept,
    report: Callable[[int, int, str], None],
) -> dict[str, Sensitivity]:
    """Measure each weight at its first scheme, and compare its other schemes with that.

    Memory: the input of every layer for the first sequence, and the rows of logits of four weights,
    twice.

    Args:
        sequences: what methods are given statistics of; the first is compared.
        schemes: of each weight, with the method of its first one.
        folder: for statistics, which are written there.
        kept: what is there is not measured again.
        report: called with (done, of, weight).

    Raises:
        BuildError: a weight is not finite.
    """
    total = len(schemes)
    before = {name: kept.read(name) for name in schemes}
    found = {name: one for name, one in before.items() if one is not None}
    missing = [name for name in schemes if name not in found]
    if missing:
        report(len(found), total, "float model")
        wanted = {k for name in missing for k in methods.load(schemes[name][0].method).statistics}
        # Nothing runs beside the float model itself.
        kinds = sorted({*wanted, "squares"} - {"cross_moments"})
        statistics = measure(checkpoint, sequences, kinds, folder)
        run = _FloatRun(checkpoint, sequences[:1])
        for names in _together(missing):
            report(len(found), total, names[0])
            for name, loss in _losses(run, names, schemes, statistics).items():
                errors = _errors(run.weights, name, schemes[name], statistics)
                found[name] = Sensitivity(schemes[name][0], loss, errors)
                kept.write(name, found[name])
    report(total, total, "weights")
    return {name: found[name] for name in schemes}


def _together(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the weights that are measured at once: several of layers, or one table."""
    layered = [name for name in names if name.startswith("layers.")]
    yield from ([name] for name in names if name not in layered)
    for start in range(0, len(layered), WEIGHTS_TOGETHER):
        yield layered[start : start + WEIGHTS_TOGETHER]


def _losses(
    run: _FloatRun,
    names: Sequence[str],
    schemes: Mapping[str, tuple[QuantScheme, ...]],
    statistics: CalibrationStore,
) -> dict[str, float]:
    quantized = {}
    for name in names:
        scheme = schemes[name][0]
        prepare = methods.load(scheme.method).prepare
        quantized[name] = prepare(scheme, statistics.inputs(name))
    if names[0].startswith("layers."):
        return run.losses(quantized)
    return {name: run.table_loss(name, quantize) for name, quantize in quantized.items()}


def _errors(
    weights: FloatWeights,
    name: str,
    offered: Sequence[QuantScheme],
    statistics: CalibrationStore,
) -> dict[QuantScheme, float]:
    squares = statistics.inputs(name).squares
    importance = None if squares is None else torch.from_numpy(np.array(squares))
    return {scheme: _error(weights, name, scheme, importance) for scheme in offered}


def _error(
    weights: FloatWeights, name: str, scheme: QuantScheme, importance: Tensor | None
) -> float:
    rows, columns = weights.shape(name)
    step, error = max(1, _BLOCK_ELEMENTS // columns), 0.0
    for start in range(0, rows, step):
        block = torch.from_numpy(weights.rows(name, start, start + step))
        nearest = round_to_nearest.prepare(scheme, NO_INPUT_STATISTICS)
        squared = (block - _restored(block, nearest)).square().sum(0, dtype=torch.float64)
        error += float(squared.sum() if importance is None else squared @ importance.double())
    return error


def _restored(weight: Tensor, quantize: Quantize) -> Tensor:
    codes, scales = quantize(weight)
    grouped = codes.reshape(*scales.shape, -1).float() * scales.unsqueeze(-1)
    return grouped.reshape(weight.shape)
