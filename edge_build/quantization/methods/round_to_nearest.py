"""Round to nearest, each scale searched for the least squared error. Needs no calibration data."""

from functools import partial

import torch
from torch import Tensor

from pocketlm.edge_build.calibration.measured import InputStatistics
from pocketlm.edge_build.quantization.methods import Method, Quantize
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.scale_search import code_range, search_scales


def prepare(scheme: QuantScheme, inputs: InputStatistics) -> Quantize:
    """Return what rounds blocks of rows; `inputs` is not read."""
    return partial(_quantize, scheme=scheme)


def _quantize(weight: Tensor, scheme: QuantScheme) -> tuple[Tensor, Tensor]:
    scales = search_scales(weight, scheme)
    codes = torch.div(weight.reshape(*scales.shape, -1), scales.unsqueeze(-1))
    codes.round_().clamp_(*code_range(scheme))
    return codes.to(torch.int8).reshape(weight.shape), scales


METHOD = Method(prepare)
