"""The scale of each group: candidates are tried, the one with the least squared error is kept.

In 4 bits the best of them is fitted once more to the codes that it gives.
"""

import torch
from torch import Tensor

from pocketlm.edge_build.quantization.recipe import QuantScheme

# Candidate scales are absmax / divisor. 7 keeps the extremum whole on either side, 8 uses the code
# -8 as well; larger divisors clip the extremum for a finer grid, which wins on bell-shaped groups.
_DIVISORS_4_BIT = (7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.0, 11.0)
_DIVISORS_8_BIT = (127.0, 132.0, 138.0)
# Runtimes want positive, normalized scales also where a whole group is zero.
LEAST_SCALE = 2.0**-100


def code_range(scheme: QuantScheme) -> tuple[float, float]:
    """Return the lowest and the highest code that a weight is rounded to."""
    return (-8.0, 7.0) if scheme.bits == 4 else (-127.0, 127.0)


def search_scales(weight: Tensor, scheme: QuantScheme, importance: Tensor | None = None) -> Tensor:
    """Choose the scales of a block of rows for codes that are rounded to nearest.

    They are rounded to bfloat16 before errors are compared, so that a runtime that stores them in
    bfloat16 multiplies by the very same numbers.

    Args:
        weight: [rows, in] float32.
        importance: [in], what the squared error of each column counts; None counts all alike.

    Returns:
        [rows, groups] float32.
    """
    rows = weight.shape[0]
    grouped = weight.reshape(rows, scheme.groups(weight.shape[1]), -1)
    root = None if importance is None else importance.sqrt().reshape(1, *grouped.shape[1:])
    lowest, highest = code_range(scheme)
    divisors = _DIVISORS_4_BIT if scheme.bits == 4 else _DIVISORS_8_BIT
    absmax = grouped.abs().amax(-1, keepdim=True)
    best_error = torch.full_like(absmax, float("inf"))
    best_scale = torch.ones_like(absmax)
    # One buffer for all candidates: the few operations on it are all that a build waits for here.
    codes = torch.empty_like(grouped)

    def best_of(wanted: Tensor, error_now: Tensor, scale_now: Tensor) -> tuple[Tensor, Tensor]:
        scale = wanted.to(torch.bfloat16).float().clamp_(min=LEAST_SCALE)
        torch.div(grouped, scale, out=codes).round_().clamp_(lowest, highest)
        torch.addcmul(grouped, codes, scale, value=-1, out=codes)
        if root is not None:
            codes.mul_(root)
        error = torch.linalg.vector_norm(codes, dim=-1, keepdim=True)
        better = error < error_now
        return torch.where(better, error, error_now), torch.where(better, scale, scale_now)

    for divisor in divisors:
        best_error, best_scale = best_of(absmax / divisor, best_error, best_scale)
    if scheme.bits == 4:
        # Wins 0.1 dB, half of what trying a hundred divisors would; 8 bits have nothing to win.
        torch.div(grouped, best_scale, out=codes).round_().clamp_(lowest, highest)
        fitted = _fitted(grouped, codes, best_scale, root)
        _, best_scale = best_of(fitted, best_error, best_scale)
    return best_scale.squeeze(-1)


def _fitted(grouped: Tensor, codes: Tensor, scale: Tensor, root: Tensor | None) -> Tensor:
    """Return the scale with the least squared error for given codes: Σ m c w / Σ m c².

    Args:
        root: of m, what the squared error of each column counts.
    """
    if root is not None:
        grouped, codes = grouped * root, codes * root
    products = torch.linalg.vecdot(codes, grouped).unsqueeze(-1)
    squares = torch.linalg.vecdot(codes, codes).unsqueeze(-1)
    return torch.where(squares > 0, products / squares, scale)
