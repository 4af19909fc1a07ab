"""Refuses weights that are not numbers."""

import math

import torch
from torch import Tensor

from pocketlm.edge_build.errors import BuildError


def finite(name: str, block: Tensor) -> Tensor:
    """Return a block of a checkpoint's weight.

    Raises:
        BuildError: a value is NaN or infinite.
    """
    # The sum is quick to take, and finite only if all values are; a sum alone can also overflow.
    if not math.isfinite(float(block.sum())) and not bool(torch.isfinite(block).all()):
        raise BuildError(
            f"{name}: the checkpoint holds NaN or infinite values; the file is damaged or was "
            "saved from a diverged training; get it again"
        )
    return block
