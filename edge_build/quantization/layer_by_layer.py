"""Quantizes a model layer by layer, each weight for the inputs that quantized layers give it.

The model runs once over a calibration text. A linear layer that is reached measures its inputs, has
its weight quantized for them and multiplies by the result, so that the layers behind it see what
earlier ones lost. Where a method compares, the float model runs beside it on the same text.
Activations are rounded as a backend rounds them.
"""

import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pocketlm.edge_build.calibration.float_weights import FloatWeights
from pocketlm.edge_build.calibration.measured import InputStatistic, InputStatistics
from pocketlm.edge_build.calibration.moments import second_moments
from pocketlm.edge_build.quantization.activations import AttentionRounding, attention_rounding
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import (
    EagerWeights,
    OnInput,
    ReferenceLinear,
    assemble_decoder,
    round_inputs,
)
from pocketlm.edge_build.reference_attention import KeepEverything, Packed
from pocketlm.edge_build.resident_memory import return_freed_memory
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.models.layers import MLP
from pocketlm.runtime_py.manifest import ActivationQuantization

# Tokens of an MLP at once; its weights are read for each such piece.
PIECE_TOKENS = 4096

# Asks for a weight's statistics only if they are needed.
QuantizeWeight = Callable[[str, Callable[[], InputStatistics]], None]


@dataclass(frozen=True)
class LayerPass:
    """What runs over the calibration text.

    Attributes:
        sequences: tokens; they do not see each other.
        statistics: those that methods need, by weight; other weights are in the store already.
        activations: what a backend rounds of a layer's inputs.
    """

    sequences: Sequence[Sequence[int]]
    statistics: Mapping[str, Collection[InputStatistic]]
    activations: ActivationQuantization

    @property
    def wanted(self) -> set[InputStatistic]:
        return {kind for kinds in self.statistics.values() for kind in kinds}


@torch.no_grad()
def quantize_layers(
    checkpoint: Checkpoint, store: WeightStore, text: LayerPass, quantize: QuantizeWeight
) -> None:
    """Have the weights of `text.statistics` quantized, in the order in which the model reads them.

    Memory: activations of the whole text at one layer, twice where a method compares, of the MLP's
    wide ones the inputs of its last product alone; and what `quantize` holds.

    Args:
        store: of what is quantized; holds the table when this is called.

    Raises:
        BuildError: a weight is not finite.
    """
    config = checkpoint.config
    beside = "cross_moments" in text.wanted
    models: tuple[EagerWeights, ...] = (store, FloatWeights(checkpoint))[: 1 + beside]
    inputs = _LayerInputs()

    def linear(name: str) -> nn.Module:
        rounding = round_inputs(store.schemes[name], text.activations)
        return _CalibratedLinear(name, models, (rounding, None), quantize_for)

    def quantize_for(name: str, x: Tensor) -> None:
        if name in text.statistics:
            quantize(name, lambda: inputs.statistics(x, text.statistics[name]))

    decoder = assemble_decoder(config, models[-1], linear, _Tables(models))
    for name, module in list(decoder.named_modules()):
        if isinstance(module, MLP):
            decoder.set_submodule(name, _MLPInPieces(module))
    unrounded: AttentionRounding = attention_rounding("none", None)
    lengths = [len(tokens) for tokens in text.sequences]
    steps = [
        KeepEverything(config, None, torch.arange(length), (unrounded,) * len(models))
        for length in lengths
    ]
    # Pieces of many sequences lie between large ones; the heap would grow with each layer.
    packed = Packed(steps, lengths, lambda layer: return_freed_memory())
    tokens = torch.tensor([[token for tokens in text.sequences for token in tokens]])
    hidden = decoder.hidden(tokens.expand(len(models), -1), packed)
    # Its products are not wanted.
    quantize_for(store.head_name(), decoder.norm(hidden))


class _CalibratedLinear(nn.Module):
    """A linear layer of every model, by weights that are quantized when inputs first arrive.

    Args:
        models: the quantized one, then the float one if it runs beside.
        roundings: of each model's inputs.
        quantize: called with name and inputs [models, T, in] before the product.
    """

    def __init__(
        self,
        name: str,
        models: Sequence[EagerWeights],
        roundings: Sequence[OnInput | None],
        quantize: Callable[[str, Tensor], None],
    ) -> None:
        super().__init__()
        self.name, self.models, self.roundings = name, models, roundings
        self.quantize = quantize

    def forward(self, x: Tensor) -> Tensor:
        """x [models, T, in] → [models, T, out]."""
        self.measure(x)
        return self.product(x)

    def measure(self, x: Tensor) -> None:
        """Have the weight quantized for inputs [models, T, in], all that there will be."""
        self.quantize(self.name, x)

    def product(self, x: Tensor) -> Tensor:
        """x [models, tokens, in] → [models, tokens, out], of a weight that was quantized."""
        rows, _ = self.models[-1].shape(self.name)
        result = x.new_empty(*x.shape[:-1], rows)
        pairs = zip(self.models, self.roundings, x.split(1), strict=False)
        for (weights, rounding, member), into in zip(pairs, result, strict=True):
            # Read once, so nothing of it is to stay.
            into.copy_(ReferenceLinear(weights, self.name, (rounding,))(member)[0])
        return result


class _MLPInPieces(nn.Module):
    """An MLP whose wide activations exist once for the whole text, not three times.

    Args:
        mlp: of _CalibratedLinear layers.
    """

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """x [models, T, E] → [models, T, E]."""
        gate, up, down = map(
            self._calibrated, (self.mlp.gate_proj, self.mlp.up_proj, self.mlp.down_proj)
        )
        gate.measure(x)
        up.measure(x)
        rows, _ = up.models[-1].shape(up.name)
        wide = x.new_empty(*x.shape[:-1], rows)
        for into, piece in zip(_pieces(wide), _pieces(x), strict=True):
            torch.mul(self.mlp.gated(gate.product(piece)), up.product(piece), out=into)
        down.measure(wide)
        return torch.cat([down.product(piece) for piece in _pieces(wide)], dim=1)

    def _calibrated(self, part: nn.Module) -> _CalibratedLinear:
        assert isinstance(part, _CalibratedLinear), "a layer that was assembled here"
        return part


def _pieces(x: Tensor) -> Sequence[Tensor]:
    return x.split(PIECE_TOKENS, dim=1)


class _Tables(nn.Module):
    """Rows of each model's table."""

    def __init__(self, models: Sequence[EagerWeights]) -> None:
        super().__init__()
        self.models = models

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [models, T], each the same → [models, T, E]."""
        ids, inverse = tokens[0].unique(return_inverse=True)
        tables = [[m.rows("embed_tokens", t, t + 1) for t in ids.tolist()] for m in self.models]
        rows = [torch.from_numpy(np.concatenate(table))[inverse] for table in tables]
        return torch.stack(rows)


class _LayerInputs:
    """Statistics of inputs; layers that read the same inputs, as queries and keys, share them."""

    def __init__(self) -> None:
        self.measured: Callable[[], Tensor | None] = lambda: None
        self.found: dict[InputStatistic, Tensor] = {}

    def statistics(self, x: Tensor, wanted: Collection[InputStatistic]) -> InputStatistics:
        """Measure x [models, T, in]."""
        if self.measured() is not x:
            self.measured, self.found = weakref.ref(x), {}
        for kind in wanted:
            if kind not in self.found:
                self.found[kind] = _measure(kind, x)
        return InputStatistics(**{kind: self.found[kind].numpy() for kind in wanted})


def _measure(kind: InputStatistic, x: Tensor) -> Tensor:
    if kind == "maxima":
        return x[0].abs().amax(0)
    if kind == "squares":
        return x[0].square().sum(0)
    return x[-1].T @ x[0] if kind == "cross_moments" else second_moments(x[0])
