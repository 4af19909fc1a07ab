"""Scales and codes of round-to-nearest."""

import math

import pytest
import torch

from pocketlm.edge_build.calibration.measured import NO_INPUT_STATISTICS
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.recipe import QuantScheme

SCHEMES = [QuantScheme(4, 32), QuantScheme(4, 128), QuantScheme(4), QuantScheme(8)]


def quantize(weight: torch.Tensor, scheme: QuantScheme) -> tuple[torch.Tensor, torch.Tensor]:
    return methods.load("round_to_nearest").prepare(scheme, NO_INPUT_STATISTICS)(weight)


def restored(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return (codes.float().reshape(*scales.shape, -1) * scales.unsqueeze(-1)).reshape(codes.shape)


def decibels(weight: torch.Tensor, approximation: torch.Tensor) -> float:
    noise = (weight - approximation).square().sum()
    return 10 * math.log10(float(weight.square().sum() / noise))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_codes_fit_the_grid_and_scales_are_positive_bfloat16(scheme: QuantScheme) -> None:
    weight = torch.randn(16, 256, generator=torch.Generator().manual_seed(1))
    codes, scales = quantize(weight, scheme)
    lowest, highest = (-8, 7) if scheme.bits == 4 else (-127, 127)
    assert int(codes.min()) >= lowest and int(codes.max()) <= highest
    assert scales.shape == (16, scheme.groups(256))
    assert bool((scales > 0).all())
    assert torch.equal(scales, scales.bfloat16().float())


@pytest.mark.parametrize(
    ("scheme", "least"),
    [
        # Gaussian weights: 20.9 dB for absmax / 7 in groups of 32, 21.19 for the best divisor; the
        # fit to the codes gains the rest. 19.85 for the best divisor in groups of 128.
        (QuantScheme(4, 32), 21.25),
        (QuantScheme(4, 128), 19.86),
        (QuantScheme(8), 40.0),
    ],
    ids=str,
)
def test_noise_on_gaussian_weights(scheme: QuantScheme, least: float) -> None:
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(2))
    assert decibels(weight, restored(*quantize(weight, scheme))) > least


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_search_is_never_worse_than_the_plain_scale(scheme: QuantScheme) -> None:
    weight = torch.randn(8, 256, generator=torch.Generator().manual_seed(3))
    weight[0, 0] = 30.0
    highest = 7.0 if scheme.bits == 4 else 127.0
    grouped = weight.reshape(8, scheme.groups(256), -1)
    plain_scale = (grouped.abs().amax(-1, keepdim=True) / highest).bfloat16().float()
    plain = (grouped / plain_scale).round().clamp(-highest, highest) * plain_scale
    searched = restored(*quantize(weight, scheme)).reshape(grouped.shape)
    worse = (searched - grouped).square().sum(-1) > (plain - grouped).square().sum(-1) + 1e-9
    assert not bool(worse.any())


def test_weights_on_the_grid_are_kept_exactly() -> None:
    codes = torch.randint(-7, 8, (4, 64), generator=torch.Generator().manual_seed(4)).float()
    codes[:, 0::32] = 7
    weight = codes * 0.5
    assert torch.equal(restored(*quantize(weight, QuantScheme(4, 32))), weight)


def test_a_group_of_zeros_gets_a_usable_scale() -> None:
    codes, scales = quantize(torch.zeros(2, 64), QuantScheme(4, 32))
    assert not bool(codes.any())
    assert bool(torch.isfinite(scales).all()) and bool((scales > 0).all())
