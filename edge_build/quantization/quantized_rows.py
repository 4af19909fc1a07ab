"""A block of rows that was quantized, and how many of its groups are the checkpoint's own."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.runtime_py.int4_packing import pack_int4
from pocketlm.runtime_py.manifest import OwnGridEntry


@dataclass(frozen=True)
class OwnGroups:
    """Groups of a weight that lies on a grid in the checkpoint, counted.

    Attributes:
        on_grid: groups that are on the grid.
        codes: groups whose codes were kept.
        whole: groups whose codes and scales were kept exactly.
    """

    total: int = 0
    on_grid: int = 0
    codes: int = 0
    whole: int = 0

    def __add__(self, other: "OwnGroups") -> "OwnGroups":
        return OwnGroups(
            self.total + other.total,
            self.on_grid + other.on_grid,
            self.codes + other.codes,
            self.whole + other.whole,
        )

    def entry(self) -> OwnGridEntry | None:
        """Return what a manifest says; None where there is no grid."""
        if not self.total:
            return None
        return OwnGridEntry(self.total, self.on_grid, self.codes, self.whole)


@dataclass(frozen=True)
class QuantizedRows:
    """Rows as a store keeps them; signal and noise are sums of squares.

    Attributes:
        zero_points: [rows, groups] int8, where the scheme has them.
    """

    codes: NDArray[Any]
    scales: NDArray[np.float32]
    signal: float
    noise: float
    zero_points: NDArray[np.int8] | None = None
    own: OwnGroups | None = None


def quantized_rows(
    weight: Tensor,
    codes: Tensor,
    scales: Tensor,
    scheme: QuantScheme,
    zero_points: Tensor | None = None,
    own: OwnGroups | None = None,
) -> QuantizedRows:
    """Pack codes, and measure what they cost.

    Args:
        weight: [rows, in] float32, what was quantized.
        codes: [rows, in] int8.
        scales, zero_points: [rows, groups].
    """
    grouped = weight.reshape(*scales.shape, -1)
    steps = codes.reshape(grouped.shape).float()
    if zero_points is not None:
        steps -= zero_points.unsqueeze(-1).float()
    noise = torch.addcmul(grouped, steps, scales.unsqueeze(-1), value=-1)
    return QuantizedRows(
        codes=pack_int4(codes.numpy()) if scheme.bits == 4 else codes.numpy(),
        scales=scales.numpy(),
        signal=_sum_of_squares(weight),
        noise=_sum_of_squares(noise),
        zero_points=None if zero_points is None else zero_points.numpy(),
        own=own,
    )


def _sum_of_squares(values: Tensor) -> float:
    flat = values.flatten()
    return float(torch.dot(flat, flat))
