"""What a tied table is calibrated for: rows that are looked up, and the head."""

import numpy as np
import torch

from pocketlm.edge_build.calibration.measured import InputStatistics
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.tied_table import LOOKED_UP_SHARE, of_both_ends

SCHEME = QuantScheme(4, 32, "gptq")


def moments(columns: int) -> InputStatistics:
    """Return those of inputs with a few directions that are much larger than others."""
    random = torch.Generator().manual_seed(5)
    inputs = torch.randn(4 * columns, columns, generator=random)
    inputs += (
        8
        * torch.randn(4 * columns, 3, generator=random)
        @ torch.randn(3, columns, generator=random)
    )
    return InputStatistics(moments=(inputs.T @ inputs).numpy())


def lost(weight: torch.Tensor, statistics: InputStatistics, both: InputStatistics) -> float:
    """Return the error, as both ends count it, of a table that is rounded for some statistics."""
    codes, scales = methods.load("gptq").prepare(SCHEME, statistics)(weight)
    grid = codes.float().reshape(*scales.shape, -1) * scales.unsqueeze(-1)
    error = (weight - grid.reshape(weight.shape)).double()
    assert both.moments is not None
    return float(((error @ torch.from_numpy(both.moments).double()) * error).sum())


def test_moments_get_a_share_of_their_mean_diagonal() -> None:
    head = moments(64)
    both = of_both_ends(head)
    assert head.moments is not None and both.moments is not None
    added = both.moments - head.moments
    mean = float(np.diagonal(head.moments).mean())
    # Sums of float32 beside elements that are some hundred times as large.
    np.testing.assert_allclose(added, LOOKED_UP_SHARE * mean * np.eye(64), atol=1e-3 * mean)


def test_both_ends_together_lose_least() -> None:
    weight = torch.randn(256, 128, generator=torch.Generator().manual_seed(6))
    head = moments(128)
    both = of_both_ends(head)
    assert lost(weight, both, both) < 0.9 * lost(weight, head, both)


def test_without_moments_nothing_changes() -> None:
    nothing = InputStatistics()
    assert of_both_ends(nothing) is nothing
