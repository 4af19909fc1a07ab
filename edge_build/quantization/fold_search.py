"""find_folds(): the float model over a text → the scales with which rounding costs outputs least.

Lin et al., "AWQ: Activation-aware Weight Quantization", arXiv 2306.00978: s_j = mean|x_j|^α, so
that channels with large inputs are rounded in smaller steps; α of each group is searched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.edge_build.calibration.float_weights import FloatWeights
from pocketlm.edge_build.calibration.measured import NO_INPUT_STATISTICS
from pocketlm.edge_build.quantization.activations import attention_rounding
from pocketlm.edge_build.quantization.folds import FoldGroup, Folds
from pocketlm.edge_build.quantization.methods import round_to_nearest
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.reference import OnInput, eager_decoder, round_inputs
from pocketlm.edge_build.reference_attention import KeepEverything, Packed
from pocketlm.edge_build.resident_memory import return_freed_memory
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.runtime_py.manifest import ActivationQuantization

# α = 0 folds nothing; 1 makes all inputs of one size.
EXPONENTS = tuple(step / 20 for step in range(20))
# Tokens whose outputs are compared, spread over the text: one number a group is chosen.
SEARCH_TOKENS = 512
_BLOCK_ELEMENTS = 1 << 20
_SMALLEST = 1e-4


@dataclass(frozen=True)
class FoldSearch:
    """What to search.

    Attributes:
        schemes: of every reader.
        text: sequences of tokens.
        activations: what a backend rounds of a layer's inputs.
    """

    groups: Sequence[FoldGroup]
    schemes: Mapping[str, QuantScheme | None]
    text: Sequence[Sequence[int]]
    activations: ActivationQuantization


@torch.no_grad()
def find_folds(
    checkpoint: Checkpoint,
    asked: FoldSearch,
    folder: Path,
    report: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Folds:
    """Search the scales of every group, and keep each in `folder` when it is found.

    Those that an earlier run left there are taken over.

    Memory: activations of the whole text at one layer, and `SEARCH_TOKENS` inputs in every scale.

    Args:
        report: called with groups done, all of them, and the next weight.

    Raises:
        BuildError: a weight is not finite.
    """
    weights, groups = FloatWeights(checkpoint), asked.groups
    by_reader = {group.readers[0]: group for group in groups}
    done: list[str] = []

    def on_input(name: str) -> tuple[OnInput | None]:
        group = by_reader.get(name)
        return (None if group is None else lambda x: search(group, x),)

    def search(group: FoldGroup, x: Tensor) -> Tensor:
        report(len(done), len(groups), group.readers[0])
        path = _path(folder, group)
        if _read(path, weights.shape(group.source)[0]) is None:
            found = _search(weights, group, x, asked)
            written = path.with_suffix(".writing")
            with written.open("wb") as file:
                np.save(file, found)
            written.rename(path)
        done.append(group.source)
        return x

    lengths = [len(tokens) for tokens in asked.text]
    unrounded = attention_rounding("none", None)
    steps = [
        KeepEverything(checkpoint.config, None, torch.arange(n), (unrounded,)) for n in lengths
    ]
    packed = Packed(steps, lengths, lambda layer: return_freed_memory())
    tokens = torch.tensor([[token for sequence in asked.text for token in sequence]])
    eager_decoder(checkpoint.config, weights, on_input).hidden(tokens, packed)
    report(len(groups), len(groups), "weights")
    return read_folds(groups, folder)


def read_folds(groups: Sequence[FoldGroup], folder: Path) -> Folds:
    """Return the folds that `find_folds` kept; a scale of ones is none."""
    found = {group.source: np.load(_path(folder, group), allow_pickle=False) for group in groups}
    kept = {source: scales for source, scales in found.items() if (scales != 1).any()}
    return Folds(tuple(groups), kept)


def _path(folder: Path, group: FoldGroup) -> Path:
    return folder / f"{group.source}.npy"


def _read(path: Path, channels: int) -> NDArray[np.float32] | None:
    """Return scales that an interrupted run kept; None where they are missing or damaged."""
    try:
        scales: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = scales.shape == (channels,) and scales.dtype == np.float32
    return scales if whole and np.isfinite(scales).all() and (scales > 0).all() else None


def _search(
    weights: FloatWeights, group: FoldGroup, x: Tensor, asked: FoldSearch
) -> NDArray[np.float32]:
    """Return the scales of the source's rows for inputs x [T, in] of the readers."""
    sizes = group.of_source(x.abs().mean(0))
    places = torch.linspace(0, len(x) - 1, min(len(x), SEARCH_TOKENS)).long()
    x, candidates = x[places], [_scales(sizes, exponent) for exponent in EXPONENTS]
    columns = [group.of_readers(scales) for scales in candidates]
    errors = [0.0] * len(candidates)
    for name in group.readers:
        scheme = asked.schemes[name]
        assert scheme is not None, "weights of a group are quantized"
        rounding = round_inputs(scheme, asked.activations) or _unchanged
        inputs = [rounding(x / scales) for scales in columns]
        quantize = round_to_nearest.prepare(scheme, NO_INPUT_STATISTICS)
        rows, width = weights.shape(name)
        step = max(1, _BLOCK_ELEMENTS // width)
        for start in range(0, rows, step):
            block = torch.from_numpy(weights.rows(name, start, start + step))
            wanted = x @ block.T
            for number, (one, scales) in enumerate(zip(inputs, columns, strict=True)):
                codes, steps = quantize(block * scales)
                rounded = codes.reshape(*steps.shape, -1).float() * steps.unsqueeze(-1)
                lost = wanted - one @ rounded.reshape(block.shape).T
                errors[number] += float(lost.square().sum(dtype=torch.float64))
    # The first of equals, which is the smallest exponent.
    return candidates[errors.index(min(errors))].numpy()


def _scales(sizes: Tensor, exponent: float) -> Tensor:
    """Return sizes ** exponent, the smallest and the largest equally far from 1."""
    scales = sizes.pow(exponent).clamp_(min=_SMALLEST)
    return scales / (scales.max() * scales.min()).sqrt()


def _unchanged(x: Tensor) -> Tensor:
    return x
