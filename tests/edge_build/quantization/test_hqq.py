"""HQQ against its objective: no group may be worse than rounded to nearest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketlm.edge_build.calibration.measured import NO_INPUT_STATISTICS
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.methods import hqq
from pocketlm.edge_build.quantization.recipe import QuantScheme

SCHEMES = [QuantScheme(4, 32), QuantScheme(4, 128), QuantScheme(4), QuantScheme(8)]
ROWS, COLUMNS = 16, 256


def quantize(method: str, w: torch.Tensor, scheme: QuantScheme) -> tuple[torch.Tensor, ...]:
    return methods.load(method).prepare(scheme, NO_INPUT_STATISTICS)(w)


def errors(
    w: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor:  # [rows, groups, group]
    grouped = w.reshape(*scales.shape, -1)
    return grouped - codes.reshape(grouped.shape).float() * scales.unsqueeze(-1)


def heavy_tailed(seed: int) -> torch.Tensor:
    """Weights of which few are large, in groups of other sizes, some one-sided or zero."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(ROWS, COLUMNS, generator=generator)
    w *= torch.exp(torch.randn(ROWS, COLUMNS // 32, generator=generator)).repeat_interleave(32, 1)
    w[torch.rand(w.shape, generator=generator) < 0.01] *= 8
    w[0], w[1], w[2] = 0, w[1].abs(), -w[2].abs()
    return w


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@given(seed=st.integers(0, 1000), size=st.sampled_from([1e-12, 0.02, 1.0, 1e8]))
@settings(max_examples=12)
def test_no_group_is_worse_than_rounded_to_nearest(
    scheme: QuantScheme, seed: int, size: float
) -> None:
    w = heavy_tailed(seed) * size
    ours, nearest = (
        errors(w, *quantize(method, w, scheme)).abs().pow(hqq.NORM).sum(-1)
        for method in ("hqq", "round_to_nearest")
    )
    # The same sums in another order.
    assert bool((ours <= nearest * (1 + 1e-5)).all())
    if scheme.bits == 4:
        assert ours.sum() < nearest.sum()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_codes_fit_the_grid_and_scales_are_positive_bfloat16(scheme: QuantScheme) -> None:
    codes, scales = quantize("hqq", heavy_tailed(1), scheme)
    lowest, highest = (-8, 7) if scheme.bits == 4 else (-127, 127)
    assert codes.dtype == torch.int8 and codes.min() >= lowest and codes.max() <= highest
    assert scales.shape == (ROWS, scheme.groups(COLUMNS))
    assert torch.equal(scales, scales.bfloat16().float()) and bool((scales > 0).all())


def test_weights_on_the_grid_are_kept_exactly() -> None:
    codes = torch.randint(-7, 8, (4, 64), generator=torch.Generator().manual_seed(4)).float()
    codes[:, 0::32] = 7
    w = codes * 0.5
    assert not errors(w, *quantize("hqq", w, QuantScheme(4, 32))).any()


def test_a_large_error_is_taken_for_an_outlier_and_a_small_one_is_not() -> None:
    error = torch.tensor([0.0, 1e-20, -0.3, 0.5, 4.0, -4.0])
    kept = hqq._shrink(error, beta=1.0)
    # 4 - 4 ** -0.3
    assert kept.tolist() == pytest.approx([0, 0, 0, 0, 3.3402, -3.3402], abs=1e-4)


def test_a_block_of_rows_does_not_depend_on_the_others() -> None:
    w, scheme = heavy_tailed(2), QuantScheme(4, 32)
    whole, half = quantize("hqq", w, scheme), quantize("hqq", w[8:], scheme)
    assert torch.equal(whole[0][8:], half[0]) and torch.equal(whole[1][8:], half[1])
