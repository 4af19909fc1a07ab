"""HQQ: the scale of each group by a half-quadratic solver, for errors of which few are large.

Badri & Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", Mobius Labs, 2023,
https://mobiusml.github.io/hqq_blog/. What is kept small is Σ |w - q|^p with p < 1, to which the few
large weights of a group count less than to a sum of squares. They solve for the zero point of a
grid whose scale stays; grids without zero points leave the scale to solve for. No data is needed.
"""

from functools import partial

import torch
from torch import Tensor

from pocketlm.edge_build.calibration.measured import InputStatistics
from pocketlm.edge_build.quantization.methods import Method, Quantize
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.scale_search import LEAST_SCALE, code_range, search_scales

# As in the authors' implementation, but for β: they count errors as they are, here they are counted
# in steps of the grid, so that β means the same for each group. At 1 only what is clipped is an
# outlier.
NORM = 0.7
_BETA = 1.0
_BETA_GROWTH = 1.01
_STEPS = 20


def prepare(scheme: QuantScheme, inputs: InputStatistics) -> Quantize:
    """Return what rounds blocks of rows; `inputs` is not read."""
    return partial(_quantize, scheme=scheme)


def _quantize(weight: Tensor, scheme: QuantScheme) -> tuple[Tensor, Tensor]:
    start = search_scales(weight, scheme).unsqueeze(-1)
    grouped = weight.reshape(*start.shape[:-1], -1)
    best = scale = start
    least = objective(grouped, start, scheme)
    beta = _BETA
    for _ in range(_STEPS):
        codes = _codes(grouped, scale, scheme)
        # The part of the error that is taken for that of outliers, in steps of the first scale.
        error = torch.addcmul(grouped, codes, scale, value=-1) / start
        outliers = _shrink(error, beta) * start
        products = (codes * (grouped - outliers)).sum(-1, keepdim=True)
        squares = codes.square().sum(-1, keepdim=True)
        solved = torch.where(squares > 0, products / squares, scale)
        scale = solved.to(torch.bfloat16).float().clamp_(min=LEAST_SCALE)
        found = objective(grouped, scale, scheme)
        better = found < least
        least, best = torch.where(better, found, least), torch.where(better, scale, best)
        beta *= _BETA_GROWTH
    codes = _codes(grouped, best, scheme)
    return codes.to(torch.int8).reshape(weight.shape), best.squeeze(-1)


def objective(grouped: Tensor, scale: Tensor, scheme: QuantScheme) -> Tensor:
    """Return Σ |w - q|^p of each group.

    Args:
        grouped: [rows, groups, group].
        scale: [rows, groups, 1].

    Returns:
        [rows, groups, 1].
    """
    error = torch.addcmul(grouped, _codes(grouped, scale, scheme), scale, value=-1)
    return error.abs_().pow_(NORM).sum(-1, keepdim=True)


def _codes(grouped: Tensor, scale: Tensor, scheme: QuantScheme) -> Tensor:
    return torch.div(grouped, scale).round_().clamp_(*code_range(scheme))


def _shrink(error: Tensor, beta: float) -> Tensor:
    """Return the minimum over z of |z|^p + β / 2 (z - error)², as the authors approximate it."""
    size = error.abs()
    least = torch.finfo(size.dtype).tiny
    return error.sign() * (size - size.clamp(min=least).pow(NORM - 1) / beta).clamp_(min=0)


METHOD = Method(prepare)
