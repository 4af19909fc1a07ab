"""Round to nearest, each scale searched for the least squared error. Needs no calibration data."""

import torch
from torch import Tensor

from pocketlm.edge_build.calibration.measured import InputStatistics
from pocketlm.edge_build.quantization.methods import Method
from pocketlm.edge_build.quantization.recipe import QuantScheme

# Candidate scales are absmax / divisor. 7 keeps the extremum whole on either side, 8 uses the code
# -8 as well; larger divisors clip the extremum for a finer grid, which wins on bell-shaped groups.
_DIVISORS_4_BIT = (7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.0, 11.0)
_DIVISORS_8_BIT = (127.0, 132.0, 138.0)
# Runtimes want positive, normalized scales also where a whole group is zero.
_LEAST_SCALE = 2.0**-100


def quantize(weight: Tensor, scheme: QuantScheme, inputs: InputStatistics) -> tuple[Tensor, Tensor]:
    """Choose codes and scales of a block of rows.

    Scales are rounded to bfloat16 before codes are chosen, so that a runtime that stores them in
    bfloat16 multiplies by the very same numbers.

    Args:
        weight: [rows, in] float32.
        inputs: not read.

    Returns:
        Codes [rows, in] int8, and scales [rows, groups] float32.
    """
    rows = weight.shape[0]
    groups = scheme.groups(weight.shape[1])
    grouped = weight.reshape(rows, groups, -1)
    lowest, highest = (-8.0, 7.0) if scheme.bits == 4 else (-127.0, 127.0)
    divisors = _DIVISORS_4_BIT if scheme.bits == 4 else _DIVISORS_8_BIT
    absmax = grouped.abs().amax(-1, keepdim=True)
    best_error = torch.full_like(absmax, float("inf"))
    best_scale = torch.ones_like(absmax)
    # One buffer for all candidates: the few operations on it are all that a build waits for here.
    codes = torch.empty_like(grouped)
    for divisor in divisors:
        scale = _bf16(absmax / divisor)
        torch.div(grouped, scale, out=codes).round_().clamp_(lowest, highest)
        torch.addcmul(grouped, codes, scale, value=-1, out=codes)
        error = torch.linalg.vector_norm(codes, dim=-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
    torch.div(grouped, best_scale, out=codes).round_().clamp_(lowest, highest)
    return codes.to(torch.int8).reshape(weight.shape), best_scale.squeeze(-1)


def _bf16(scale: Tensor) -> Tensor:
    return scale.to(torch.bfloat16).float().clamp_(min=_LEAST_SCALE)


METHOD = Method(quantize)
