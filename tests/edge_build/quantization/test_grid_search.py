"""Codes and scales come back out of real numbers, whatever type rounded them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pocketlm.edge_build.quantization.grid_search import follows_rule, search_grid

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
GROUP = 32


def rounded(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    found: NDArray[np.float32] = torch.from_numpy(values).to(DTYPES[dtype]).float().numpy()
    return found


@settings(max_examples=60)
@given(
    codes=arrays(np.int16, (2, GROUP), elements=st.integers(-8, 7)),
    scale=st.floats(2**-10, 1.0, width=16),
    dtype=st.sampled_from(sorted(DTYPES)),
    kind=st.sampled_from(["random", "zero", "one-sided", "positive extremum"]),
)
def test_any_group_of_codes_is_on_the_grid_and_its_numbers_come_back(
    codes: NDArray[np.int16], scale: float, dtype: str, kind: str
) -> None:
    if kind == "zero":
        codes = np.zeros_like(codes)
    elif kind == "one-sided":
        codes = np.minimum(codes, 0)
    elif kind == "positive extremum":
        codes = -codes
    weight = rounded(codes.astype(np.float32) * np.float32(scale), dtype)
    found = search_grid(weight, dtype, 4, GROUP, None)
    assert found.is_on_grid.all()
    np.testing.assert_array_equal(rounded(found.rows.dequantized(), dtype), weight)
    # Codes with a common divisor are those of a coarser grid.
    divisor = np.gcd.reduce(codes, axis=1)[:, None]
    np.testing.assert_array_equal(found.rows.integers * np.maximum(divisor, 1), codes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("bits", "extremum"), [(4, 8), (4, 7), (8, 127)])
@pytest.mark.parametrize("group", [32, 128])
def test_codes_and_scales_of_a_rule_come_back_exactly(
    dtype: str, bits: int, extremum: int, group: int
) -> None:
    random = np.random.default_rng(bits + extremum)
    top = extremum if extremum == 7 else extremum - 1
    codes = random.integers(-top, top + 1, (64, 256)).astype(np.int16)
    groups = codes.reshape(64, -1, group)
    groups[..., 3] = extremum * random.choice([-1, 1], groups.shape[:2])
    scales = (0.01 + 0.03 * random.random(groups.shape[:2])).astype(np.float32)
    scales = rounded(scales, "BF16" if dtype == "BF16" else "F16")
    weight = rounded((groups * scales[..., None]).astype(np.float32).reshape(64, -1), dtype)
    assert follows_rule(weight, dtype, bits, group, extremum) == 1
    found = search_grid(weight, dtype, bits, group, extremum)
    assert found.is_on_grid.all()
    np.testing.assert_array_equal(found.rows.integers, codes)
    np.testing.assert_array_equal(found.rows.scales, scales)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [4, 8])
def test_numbers_that_were_not_rounded_to_a_grid_are_on_none(dtype: str, bits: int) -> None:
    weight = rounded(np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32), dtype)
    rule = 8 if bits == 4 else 127
    assert follows_rule(weight, dtype, bits, 32, rule) == 0
    assert search_grid(weight, dtype, 4, 32, None).is_on_grid.mean() == 0


def test_one_number_off_the_grid_takes_its_group_off() -> None:
    weight = np.tile(np.arange(-8, 8, dtype=np.float32), (2, 4)) / 64
    weight[1, 40] += 1 / 128
    on_grid = search_grid(weight, "F32", 4, 32, None).is_on_grid
    assert on_grid.tolist() == [[True, True], [True, False]]


def test_both_ends_of_a_range_of_seventeen_codes_are_no_grid_of_four_bits() -> None:
    weight = np.tile(np.array([[-8.0, 8.0, 1.0, 3.0]], np.float32), (1, 8))
    assert not search_grid(weight, "F32", 4, 32, None).is_on_grid.any()


def test_bfloat16_numbers_in_a_float32_file_are_judged_as_bfloat16() -> None:
    codes = np.tile(np.arange(-8, 8, dtype=np.float32), (4, 2))
    weight = rounded(codes * np.float32(0.0137), "BF16")
    assert search_grid(weight, "F32", 4, 32, 8).is_on_grid.all()
