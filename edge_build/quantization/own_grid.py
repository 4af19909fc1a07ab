"""The grid that a weight of a checkpoint lies on already, and its codes on one of our schemes.

A file stores codes, or real numbers that lie on a grid (grid_search.py). A scheme holds a group if
its codes, counted from the scale's zero, fit its range. What it does not hold is fitted anew.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.edge_build.calibration.measured import NO_INPUT_STATISTICS
from pocketlm.edge_build.quantization.finite import finite
from pocketlm.edge_build.quantization.grid_search import RULES, follows_rule, search_grid
from pocketlm.edge_build.quantization.methods import round_to_nearest
from pocketlm.edge_build.quantization.quantized_rows import (
    OwnGroups,
    QuantizedRows,
    quantized_rows,
)
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.scale_search import LEAST_SCALE
from pocketlm.models.checkpoint import Checkpoint
from pocketlm.models.stored_grid import GridRows, StoredGrid

_GROUP_SIZES = (None, 128, 64, 32)
# Rows that decide whether a weight is on a grid, spread over it; of these all but one in twenty.
_FIRST_ROWS, _SAMPLE_ROWS, _LEAST_SHARE = 2, 16, 0.95


@dataclass(frozen=True)
class OwnGrid:
    """The grid of one weight.

    Attributes:
        rule: where real numbers were searched, the code of a group's extremum; None for any.
        is_stored: the file has codes; otherwise it has real numbers.
    """

    grid: StoredGrid
    is_stored: bool
    rule: int | None = None


def find_grid(checkpoint: Checkpoint, name: str) -> OwnGrid | None:
    """Return the grid of a weight; None if it lies on none that a scheme can hold.

    Real numbers are judged by a few rows.
    """
    weight = checkpoint.tensors[name]
    if len(weight.shape) != 2 or weight.shape[1] % 2:
        return None
    if weight.grid is not None:
        size = weight.grid.group_size
        return OwnGrid(weight.grid, True) if size is None or size % 32 == 0 else None
    if weight.dtype not in ("F32", "F16", "BF16"):
        return None
    first = _sample(checkpoint, name, _FIRST_ROWS)
    for bits in (4, 8) if _has_few_values(first) else (8,):
        for size in _GROUP_SIZES:
            group_size = size or weight.shape[1]
            if weight.shape[1] % group_size or group_size < 2:
                continue
            if _is_on(first, weight.dtype, bits, group_size):
                sample = _sample(checkpoint, name, _SAMPLE_ROWS)
                if _is_on(sample, weight.dtype, bits, group_size):
                    return _found(sample, weight.dtype, bits, size)
    return None


def own_rows(
    checkpoint: Checkpoint, name: str, found: OwnGrid, start: int, stop: int
) -> tuple[GridRows, NDArray[np.bool_]]:
    """Return codes of rows start..stop on the grid, and which groups are on it."""
    if found.is_stored:
        rows = checkpoint.tensors[name].grid_rows(start, stop)
        return rows, np.ones(rows.scales.shape, np.bool_)
    weight = checkpoint.read_rows(name, start, stop).numpy()
    size = found.grid.group_size or weight.shape[1]
    dtype = checkpoint.tensors[name].dtype
    searched = search_grid(weight, dtype, found.grid.bits, size, found.rule)
    return searched.rows, searched.is_on_grid


@dataclass(frozen=True)
class Keeper:
    """Quantizes blocks of rows of one weight, with the checkpoint's own codes where they fit.

    Attributes:
        found: None where the weight is on no grid: all of it is rounded to nearest.
    """

    checkpoint: Checkpoint
    name: str
    scheme: QuantScheme
    found: OwnGrid | None

    def __call__(self, block: tuple[int, int]) -> QuantizedRows:
        weight = finite(self.name, self.checkpoint.read_rows(self.name, *block))
        if self.found is None:
            return self._anew(weight, None)
        rows, on_grid = own_rows(self.checkpoint, self.name, self.found, *block)
        total, on = on_grid.size, int(on_grid.sum())
        groups = self.scheme.groups(weight.shape[1])
        if groups % rows.scales.shape[1]:
            # Groups of the scheme join several of the file's: none can be kept.
            return self._anew(weight, OwnGroups(total, on, 0, 0))
        times = groups // rows.scales.shape[1]
        own = held(rows, on_grid, self.scheme, times)
        codes, scales, zeros = own.codes, own.scales, own.zero_points
        refit = ~own.fits
        if bool(refit.any()):
            codes, scales = self._better(weight, own)
            zeros = torch.where(refit, torch.zeros_like(zeros), zeros)
        per_group = own.fits.reshape(*rows.scales.shape, times).all(-1)
        exact = per_group & own.is_exact.reshape((*per_group.shape, times)).all(-1)
        counts = OwnGroups(total, on, int(per_group.sum()), int(exact.sum()))
        kept_zeros = zeros if self.scheme.zero_points else None
        return quantized_rows(weight, codes, scales, self.scheme, kept_zeros, counts)

    def _anew(self, weight: Tensor, own: OwnGroups | None) -> QuantizedRows:
        codes, scales = self._rounded(weight)
        zeros = torch.zeros_like(scales, dtype=torch.int8) if self.scheme.zero_points else None
        return quantized_rows(weight, codes, scales, self.scheme, zeros, own)

    def _rounded(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return round_to_nearest.prepare(self.scheme, NO_INPUT_STATISTICS)(weight)

    def _better(self, weight: Tensor, own: "HeldRows") -> tuple[Tensor, Tensor]:
        """Return codes and scales; of groups that do not fit, own codes cut off or rounded ones."""
        shape = own.scales.shape
        grouped = weight.reshape(*shape, -1)
        codes, scales = self._rounded(weight)
        own_codes, codes = own.codes.reshape(grouped.shape), codes.reshape(grouped.shape)
        errors = [
            torch.linalg.vector_norm(grouped - c.float() * s.unsqueeze(-1), dim=-1)
            for c, s in ((own_codes, own.scales), (codes, scales))
        ]
        # Own codes of groups that are on no grid are zeros, which are never the better ones.
        take_own = own.fits | (own.is_on_grid & (errors[0] <= errors[1]))
        codes = torch.where(take_own.unsqueeze(-1), own_codes, codes)
        return codes.reshape(weight.shape), torch.where(take_own, own.scales, scales)


@dataclass(frozen=True)
class HeldRows:
    """The checkpoint's codes on a scheme.

    Attributes:
        codes: [rows, in] int8; cut off at the ends of the range where they do not fit, without a
            zero point then.
        scales, zero_points, is_on_grid: [rows, groups] of the scheme.
        fits: the codes are the checkpoint's own.
        is_exact: the scales are, too.
    """

    codes: Tensor
    scales: Tensor
    zero_points: Tensor
    is_on_grid: Tensor
    fits: Tensor
    is_exact: Tensor


def held(rows: GridRows, on_grid: NDArray[np.bool_], scheme: QuantScheme, times: int) -> HeldRows:
    """Put codes on a scheme whose groups are one `times`-th of theirs.

    Scales become positive: a negative one turns the signs of its codes.
    """
    count, groups = rows.scales.shape[0], rows.scales.shape[1] * times
    own_scales = torch.from_numpy(rows.scales)
    negative = own_scales < 0
    integers = torch.from_numpy(rows.integers.astype(np.int32)).reshape(*own_scales.shape, -1)
    integers = torch.where(negative.unsqueeze(-1), -integers, integers)
    # A scale of zero makes zeros of all codes.
    integers = torch.where((own_scales == 0).unsqueeze(-1), 0, integers).reshape(count, groups, -1)
    exact_scales = own_scales.abs().clamp(min=LEAST_SCALE).repeat_interleave(times, dim=1)
    scales = exact_scales
    if scheme.scale_dtype == "bfloat16":
        scales = exact_scales.to(torch.bfloat16).float()
    lowest, highest = scheme.code_range
    zeros = torch.zeros(count, groups, dtype=torch.int32)
    least, most = integers.amin(-1), integers.amax(-1)
    if scheme.zero_points:
        # The zero point nearest to zero that brings both ends into the range.
        zeros = torch.maximum(torch.minimum(zeros, highest - most), lowest - least)
        zeros = zeros.clamp(lowest, highest)
    on = torch.from_numpy(on_grid).repeat_interleave(times, dim=1)
    fits = on & (least + zeros >= lowest) & (most + zeros <= highest)
    zeros = torch.where(fits, zeros, 0)
    codes = (integers + zeros.unsqueeze(-1)).clamp(lowest, highest).to(torch.int8)
    return HeldRows(
        codes=codes.reshape(count, -1),
        scales=scales.contiguous(),
        zero_points=zeros.to(torch.int8),
        is_on_grid=on,
        fits=fits,
        is_exact=(scales == exact_scales) | (integers == 0).all(-1),
    )


def _sample(checkpoint: Checkpoint, name: str, count: int) -> NDArray[np.float32]:
    rows = checkpoint.shape(name)[0]
    # Not the ends: a table's first and last rows are of tokens that nobody trained.
    chosen = sorted({(2 * index + 1) * rows // (2 * count) for index in range(count)})
    return np.concatenate([checkpoint.read_rows(name, row, row + 1).numpy() for row in chosen])


def _has_few_values(sample: NDArray[np.float32]) -> bool:
    """Say whether 32 neighbours have few sizes, as all weights on a grid of 4 bits have."""
    width = min(32, sample.shape[1])
    neighbours = np.sort(np.abs(sample[:, : sample.shape[1] // width * width]).reshape(-1, width))
    sizes = 1 + (np.diff(neighbours, axis=1) > 0).sum(axis=1)
    return bool((sizes <= 9).mean() >= _LEAST_SHARE)


def _is_on(sample: NDArray[np.float32], dtype: str, bits: int, group_size: int) -> bool:
    if not np.isfinite(sample).all() or not sample.any():
        return False
    if max(follows_rule(sample, dtype, bits, group_size, r) for r in RULES[bits]) >= _LEAST_SHARE:
        return True
    if bits == 8:
        return False  # so many codes fit anything nearly; only the rules of training tell
    searched = search_grid(sample, dtype, bits, group_size, None)
    counted = sample.reshape(*searched.is_on_grid.shape, -1).any(-1)
    return bool(searched.is_on_grid[counted].mean() >= _LEAST_SHARE)


def _found(sample: NDArray[np.float32], dtype: str, bits: int, size: int | None) -> OwnGrid:
    group_size = size or sample.shape[1]
    shares = {r: follows_rule(sample, dtype, bits, group_size, r) for r in RULES[bits]}
    rule = next((r for r, share in shares.items() if share >= _LEAST_SHARE), None)
    searched = search_grid(sample, dtype, bits, group_size, rule)
    least = np.where(searched.is_on_grid, _least(searched.rows), 0)
    limit = 7 if bits == 4 else 127
    name = f"{bits} bits"
    grid = StoredGrid(bits, size, bool((least > limit).any()), name)
    return OwnGrid(grid, False, rule)


def _least(rows: GridRows) -> NDArray[np.int16]:
    """Return the largest code of each group of positive scales."""
    signed = rows.integers.reshape(*rows.scales.shape, -1)
    found: NDArray[np.int16] = signed.max(-1)
    return found
