"""GPTQ: the rounding error of each column is made up for by the columns that are rounded later.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
arXiv 2210.17323. What is kept small is the error of the layer's output over the calibration text,
tr((W - Q) H (W - Q)ᵀ) with H = Σ x xᵀ. Columns are rounded in the order of falling H[i, i]
(activation order): each keeps the scale of its own group, which is chosen before.

x comes from layers that are quantized already. Where the float model has f in its place, W is first
moved towards the weights that make W f of x, W + W Σ (f - x) xᵀ H⁻¹: the asymmetric calibration of
Li et al., "GPTAQ", arXiv 2504.02692, in one product in place of a term for every column.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pocketlm.edge_build.calibration.measured import InputStatistics
from pocketlm.edge_build.quantization.methods import Method, Quantize, round_to_nearest
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.scale_search import code_range, search_scales

# Added to H's diagonal, as a share of its mean: directions that the text hardly shows are not free.
_DAMPING = 0.01
# How far weights are moved. All the way fits them to the text itself: on texts of 4,096 to 16,384
# tokens half of it is better or as good.
_CORRECTION = 0.5
# Columns whose errors reach the later ones by one product of matrices.
_BLOCK = 64


@dataclass(frozen=True)
class _Rounder:
    """Rounds blocks of rows of one weight.

    Attributes:
        order: columns in the order in which they are rounded.
        factor: [in, in], U of (H⁻¹ = Uᵀ U), upper triangular, H in that order.
        importance: [in], H's diagonal, as the weight has its columns.
        lost: [in, in], Σ (f - x) xᵀ with its columns in that order; None moves nothing.
    """

    scheme: QuantScheme
    order: Tensor
    factor: Tensor
    importance: Tensor
    lost: Tensor | None

    def __call__(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        if self.lost is not None:
            weight = weight + _CORRECTION * self._correction(weight)
        scales = search_scales(weight, self.scheme, self.importance)
        columns, lowest_and_highest = weight.shape[1], code_range(self.scheme)
        group = columns // scales.shape[1]
        # One column after the other is read and written whole: as rows they are contiguous.
        rest = weight[:, self.order].T.contiguous()
        steps = scales[:, self.order // group].T.contiguous()
        codes = torch.empty_like(rest)
        for start in range(0, columns, _BLOCK):
            stop = min(start + _BLOCK, columns)
            errors = torch.empty(stop - start, weight.shape[0])
            for column in range(start, stop):
                row = self.factor[column]
                torch.div(rest[column], steps[column], out=codes[column])
                codes[column].round_().clamp_(*lowest_and_highest)
                error = torch.addcmul(rest[column], codes[column], steps[column], value=-1)
                errors[column - start] = error.div_(row[column])
                rest[column + 1 : stop].addr_(row[column + 1 : stop], error, alpha=-1)
            rest[stop:].addmm_(self.factor[start:stop, stop:].T, errors, alpha=-1)
        found = torch.empty(weight.shape, dtype=torch.int8)
        found[:, self.order] = codes.T.to(torch.int8)
        return found, scales

    def _correction(self, weight: Tensor) -> Tensor:
        """Return W Σ (f - x) xᵀ H⁻¹, [rows, in].

        Where the inputs are widest, as those of down_proj, rows are few: three products by them
        are less than the one that would give Σ (f - x) xᵀ H⁻¹.
        """
        assert self.lost is not None
        found = torch.empty_like(weight)
        found[:, self.order] = weight @ self.lost @ self.factor.T @ self.factor
        return found


def prepare(scheme: QuantScheme, inputs: InputStatistics) -> Quantize:
    """Return what rounds blocks of rows, for inputs of these second moments.

    A table that is only gathered from has no inputs: it is rounded to nearest.
    """
    if inputs.moments is None:
        return round_to_nearest.prepare(scheme, inputs)
    moments = torch.from_numpy(np.array(inputs.moments, dtype=np.float64))
    diagonal = moments.diagonal()
    # A channel that is always zero costs nothing, however it is rounded.
    diagonal += _DAMPING * float(diagonal.mean()) or 1.0
    order = torch.argsort(diagonal, descending=True, stable=True)
    importance = diagonal.float()
    # One name for all of them: each is large, and freed when the next is made.
    matrix = moments[order]
    del moments, diagonal
    matrix = matrix[:, order]
    matrix = torch.linalg.cholesky(matrix)
    matrix = torch.cholesky_inverse(matrix)
    matrix = torch.linalg.cholesky(matrix, upper=True).float()
    lost = None
    if inputs.cross_moments is not None:
        lost = torch.from_numpy(inputs.cross_moments - inputs.moments)[:, order]
    return _Rounder(scheme, order, matrix, importance, lost)


# Three matrices of float64 at once.
METHOD = Method(
    prepare,
    ("moments", "cross_moments"),
    prepared_bytes=lambda in_features: 24 * in_features**2,
)
