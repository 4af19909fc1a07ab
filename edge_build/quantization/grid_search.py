"""Finds the integer grid that real numbers lie on, as quantization-aware training saves weights.

Such a weight is a code times the scale of its group, rounded to the type of the file. A group is on
the grid if one scale, times whole numbers, rounds to each of its numbers: every number allows an
interval of scales, and the intervals meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pocketlm.models.stored_grid import GridRows

# The largest code of a group, tried in this order where a weight has no rule of its own: the
# smallest that fits is the coarsest grid.
_EXTREMA = {4: tuple(range(1, 9)), 8: tuple(range(1, 129))}
# Rules of training that whole weights follow: Q4_0 gives the extremum the code -8, symmetric grids
# 7; 8 bits give it 127 or 128.
RULES = {4: (8, 7), 8: (127, 128)}


@dataclass(frozen=True)
class SearchedRows:
    """Rows of a weight against a grid.

    Attributes:
        is_on_grid: [rows, groups]; where it is not, integers and scales mean nothing.
    """

    rows: GridRows
    is_on_grid: NDArray[np.bool_]


@dataclass(frozen=True)
class _Groups:
    """Groups of numbers [n, group] in float64, and half a unit in the last place of each."""

    values: NDArray[np.float64]
    half_units: NDArray[np.float64]
    absmax: NDArray[np.float64]

    def some(self, chosen: NDArray[np.bool_]) -> "_Groups":
        if chosen.all():
            return self
        return _Groups(self.values[chosen], self.half_units[chosen], self.absmax[chosen])


def search_grid(
    weight: NDArray[np.float32], dtype: str, bits: int, group_size: int, rule: int | None
) -> SearchedRows:
    """Return codes and scales of each group that is on the grid.

    Args:
        weight: [rows, in], as `dtype` stores it.
        dtype: "F32", "F16" or "BF16".
        bits: 4 (whole numbers up to 8 of one sign, 7 of the other) or 8.
        rule: the code of each group's extremum, tried before all others; None tries all.
    """
    rows, in_features = weight.shape
    groups = _groups(weight, dtype, group_size)
    count = len(groups.values)
    integers = np.zeros((count, group_size), np.int16)
    scales = np.zeros(count, np.float32)
    found = groups.absmax == 0
    extrema: Sequence[int] = _EXTREMA[bits] if rule is None else (rule, *_EXTREMA[bits])
    for extremum in extrema:
        rest = ~found
        if not rest.any():
            break
        fits, codes, steps = _try(groups.some(rest), extremum, bits)
        chosen = np.flatnonzero(rest)[fits]
        integers[chosen], scales[chosen], found[chosen] = codes[fits], steps[fits], True
    shape = (rows, in_features // group_size)
    kept = GridRows(integers.reshape(rows, in_features), scales.reshape(shape))
    return SearchedRows(kept, found.reshape(shape))


def follows_rule(
    weight: NDArray[np.float32], dtype: str, bits: int, group_size: int, rule: int
) -> float:
    """Return the share of groups that are on the grid with this code of their extremum.

    Groups of zeros do not count; without any other the share is 0.
    """
    groups = _groups(weight, dtype, group_size)
    groups = groups.some(groups.absmax > 0)
    if not len(groups.values):
        return 0.0
    return float(_try(groups, rule, bits)[0].mean())


def _groups(weight: NDArray[np.float32], dtype: str, group_size: int) -> _Groups:
    values = np.ascontiguousarray(weight).reshape(-1, group_size)
    half_units = _half_units(values, dtype)
    wide = values.astype(np.float64)
    return _Groups(wide, half_units, np.abs(wide).max(axis=1))


def _half_units(values: NDArray[np.float32], dtype: str) -> NDArray[np.float64]:
    """Return how far a number may have been moved when it was rounded to its type."""
    if dtype == "F32" and not np.any(values.view(np.uint32) & 0xFFFF):
        dtype = "BF16"  # widened on the way
    digits, least = {"F32": (24, -149), "F16": (11, -24), "BF16": (8, -133)}[dtype]
    _, exponents = np.frexp(values)
    units = np.maximum(exponents.astype(np.int64) - digits, least)
    return np.ldexp(0.5, units).astype(np.float64)


def _try(
    groups: _Groups, extremum: int, bits: int
) -> tuple[NDArray[np.bool_], NDArray[np.int16], NDArray[np.float32]]:
    """Return which groups are on the grid with this code of their extremum, codes and scales."""
    fits, codes, scales = _fit(groups, groups.absmax / extremum, extremum, bits)
    if bits == 4 or fits.all():
        return fits, codes, scales
    # A rounded extremum moves large codes by half of one: the bfloat16 scales around it do not.
    bits_of_scale = _in_bfloat16((groups.absmax / extremum).astype(np.float32)).view(np.uint32)
    for neighbour in (0, 1, -1):
        rest = np.flatnonzero(~fits)
        near = (bits_of_scale[rest].astype(np.int64) + (neighbour << 16)).astype(np.uint32)
        steps = near.view(np.float32).astype(np.float64)
        also, more, found = _fit(groups.some(~fits), steps, extremum, bits)
        codes[rest[also]], scales[rest[also]], fits[rest[also]] = more[also], found[also], True
    return fits, codes, scales


def _fit(
    groups: _Groups, steps: NDArray[np.float64], extremum: int, bits: int
) -> tuple[NDArray[np.bool_], NDArray[np.int16], NDArray[np.float32]]:
    """Round to codes of these steps; return which groups they fit, codes and scales."""
    codes = _codes(groups, steps)
    size = np.abs(codes)
    # A code is zero only where the number is; and one that is not has its sign.
    agrees = (np.sign(codes) == np.sign(groups.values)).all(axis=1)
    divisors = np.where(size == 0, 1.0, size)
    numbers = np.abs(groups.values)
    low = np.where(size == 0, 0.0, (numbers - groups.half_units) / divisors).max(axis=1)
    high = np.where(size == 0, np.inf, (numbers + groups.half_units) / divisors).min(axis=1)
    limit = 8 if bits == 4 else 128
    both_ends = (codes == limit).any(axis=1) & (codes == -limit).any(axis=1)
    fits = agrees & (low <= high) & (size.max(axis=1) <= limit) & ~both_ends
    return fits, codes.astype(np.int16), _scales(groups, extremum, low, high)


def _codes(groups: _Groups, steps: NDArray[np.float64]) -> NDArray[np.float64]:
    codes: NDArray[np.float64] = np.rint(groups.values / np.where(steps == 0, 1, steps)[:, None])
    return codes


def _scales(
    groups: _Groups, extremum: int, low: NDArray[Any], high: NDArray[Any]
) -> NDArray[np.float32]:
    """Return scales between the bounds: of the shortest type that has one there."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        middle = np.where(np.isfinite(high), (low + high) / 2, low).astype(np.float32)
        shortest = _in_bfloat16(middle)
        half = middle.astype(np.float16).astype(np.float32)
        of_extremum = (groups.absmax / extremum).astype(np.float32)
    scales = middle
    for candidate in (of_extremum, half, shortest):
        scales = np.where((low <= candidate) & (candidate <= high), candidate, scales)
    return scales.astype(np.float32)


def _in_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    rounded: NDArray[np.float32] = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    return rounded
