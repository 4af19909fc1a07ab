"""A weight that is trained on its grid: rounded forwards, as if it were not backwards."""

from typing import Any

import torch
from torch import Tensor, nn

from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.scale_search import LEAST_SCALE, code_range

# How far from its code a position starts at most: one that GPTQ moved past the edge of its cell
# would go back in the first steps, and with it what GPTQ has won.
_INSIDE = 0.3


class GridWeight(nn.Module):
    """Codes times scales, both trained.

    `position` is the weight in steps of its grid. The step of the optimizer is then one share of a
    code for every weight, however large its scale is.

    Args:
        codes: [out, in], whole numbers to start from.
        scales: [out, groups] float32, positive, exact in bfloat16.
        weight: [out, in] float32, what the codes stand for. Each position starts at the place in
            its code's cell that is nearest to it.
    """

    def __init__(self, scheme: QuantScheme, codes: Tensor, scales: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.scheme = scheme
        codes = codes.float()
        grouped = weight.reshape(*scales.shape, -1) / scales.unsqueeze(-1)
        position = grouped.reshape(weight.shape)
        position = torch.maximum(torch.minimum(position, codes + _INSIDE), codes - _INSIDE)
        self.position = nn.Parameter(position)
        self.log_scale = nn.Parameter(scales.log())

    def forward(self) -> Tensor:
        """Return the weight [out, in] float32, exactly as an artifact multiplies by it."""
        weight: Tensor = _OnGrid.apply(self.position, self.log_scale, *code_range(self.scheme))
        return weight

    @torch.no_grad()
    def on_grid(self, position: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes [out, in] int8 and scales [out, groups] float32 of whole parameters."""
        codes = position.round().clamp(*code_range(self.scheme)).to(torch.int8)
        return codes, _scales(log_scale)


def _scales(log_scale: Tensor) -> Tensor:
    return log_scale.exp().to(torch.bfloat16).float().clamp(min=LEAST_SCALE)


class _OnGrid(torch.autograd.Function):
    """Straight-through rounding (Bengio et al., arXiv 1308.3432): the gradient passes unchanged.

    The scale's gradient is that of code times scale with the code held fixed.
    """

    @staticmethod
    def forward(
        context: Any, position: Tensor, log_scale: Tensor, lowest: float, highest: float
    ) -> Tensor:
        codes = position.round().clamp_(lowest, highest)
        scales = _scales(log_scale)
        # A byte each, in place of four, until the gradient comes.
        context.save_for_backward(codes.to(torch.int8), scales)
        grouped = codes.reshape(*scales.shape, -1).mul_(scales.unsqueeze(-1))
        return grouped.reshape(position.shape)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        codes, scales = context.saved_tensors
        scaled = gradient.reshape(*scales.shape, -1) * scales.unsqueeze(-1)
        grouped = codes.reshape(scaled.shape)
        return scaled.reshape(gradient.shape), (scaled * grouped).sum(-1), None, None
