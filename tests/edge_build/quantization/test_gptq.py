"""GPTQ against its definition: what it does to codes, and what it wins on the layer's output."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketlm.edge_build.calibration.measured import NO_INPUT_STATISTICS, InputStatistics
from pocketlm.edge_build.quantization import methods
from pocketlm.edge_build.quantization.methods import gptq
from pocketlm.edge_build.quantization.recipe import QuantScheme

SCHEMES = [QuantScheme(4, 32), QuantScheme(4, 64), QuantScheme(4), QuantScheme(8)]
ROWS, COLUMNS = 24, 128


def weight(seed: int) -> torch.Tensor:
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))


def moments(seed: int, tokens: int = 400) -> np.ndarray:
    """Of inputs whose channels move together and have other sizes, as those of models do."""
    generator = torch.Generator().manual_seed(seed + 1)
    mixing = torch.randn(COLUMNS // 4, COLUMNS, generator=generator)
    sizes = torch.exp(torch.randn(COLUMNS, generator=generator))
    x = torch.randn(tokens, COLUMNS // 4, generator=generator) @ mixing
    x = (x + torch.randn(tokens, COLUMNS, generator=generator)) * sizes
    found: np.ndarray = (x.T @ x).numpy()
    return found


def quantized(
    method: str, w: torch.Tensor, scheme: QuantScheme, h: np.ndarray | None
) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = NO_INPUT_STATISTICS if h is None else InputStatistics(moments=h.astype(np.float32))
    return methods.load(method).prepare(scheme, inputs)(w)


def restored(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return (codes.reshape(*scales.shape, -1).float() * scales.unsqueeze(-1)).reshape(codes.shape)


def output_error(w: torch.Tensor, found: torch.Tensor, h: np.ndarray) -> float:
    error = (w - found).double()
    return float(torch.einsum("oi,ij,oj->", error, torch.from_numpy(h).double(), error))


def by_definition(
    w: torch.Tensor, scales: torch.Tensor, scheme: QuantScheme, h: np.ndarray
) -> torch.Tensor:
    """Round column by column; the inverse loses each column that is done."""
    damped = torch.from_numpy(h.astype(np.float32)).double()
    damped.diagonal().add_(gptq._DAMPING * float(damped.diagonal().mean()))
    inverse, rest = torch.linalg.inv(damped), w.double().clone()
    group = COLUMNS // scales.shape[1]
    lowest, highest = (-8, 7) if scheme.bits == 4 else (-127, 127)
    codes = torch.zeros(w.shape, dtype=torch.int8)
    for column in torch.argsort(damped.diagonal(), descending=True, stable=True).tolist():
        scale = scales[:, column // group].double()
        code = torch.round(rest[:, column] / scale).clamp(lowest, highest)
        codes[:, column] = code.to(torch.int8)
        error = (rest[:, column] - code * scale) / inverse[column, column]
        rest -= error[:, None] * inverse[column]
        inverse -= torch.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    return codes


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_codes_are_those_of_the_definition(scheme: QuantScheme) -> None:
    w, h = weight(0), moments(0)
    codes, scales = quantized("gptq", w, scheme, h)
    expected = by_definition(w, scales, scheme, h)
    # float32 in another order turns a value that lies between two codes, and what comes after it.
    assert (codes == expected).float().mean() > 0.98
    ours, theirs = (output_error(w, restored(c, scales), h) for c in (codes, expected))
    assert ours == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@given(seed=st.integers(0, 1000))
@settings(max_examples=6)
def test_the_layers_output_is_closer_than_with_rounding_to_nearest(
    scheme: QuantScheme, seed: int
) -> None:
    w, h = weight(seed), moments(seed)
    ours, nearest = (
        output_error(w, restored(*quantized(method, w, scheme, h)), h)
        for method in ("gptq", "round_to_nearest")
    )
    assert ours < 0.7 * nearest


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_weight_is_moved_half_of_the_way_to_what_its_inputs_lost(scheme: QuantScheme) -> None:
    w, h = weight(4), moments(4)
    cross = h + 0.05 * moments(5)
    inputs = InputStatistics(moments=h.astype(np.float32), cross_moments=cross.astype(np.float32))
    codes, _ = methods.load("gptq").prepare(scheme, inputs)(w)
    damped = torch.from_numpy(h.astype(np.float32)).double()
    damped.diagonal().add_(gptq._DAMPING * float(damped.diagonal().mean()))
    lost = torch.from_numpy(cross - h).double()
    moved = (w + 0.5 * (w.double() @ lost @ torch.linalg.inv(damped))).float()
    assert not torch.equal(codes, quantized("gptq", w, scheme, h)[0])
    expected, _ = quantized("gptq", moved, scheme, h)
    # float32 in another order turns a value that lies between two codes, and what comes after it.
    assert (codes == expected).float().mean() > 0.98


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_channels_that_do_not_move_together_are_rounded_to_nearest(scheme: QuantScheme) -> None:
    w = weight(1)
    ours, nearest = (
        quantized(method, w, scheme, np.eye(COLUMNS)) for method in ("gptq", "round_to_nearest")
    )
    assert torch.equal(ours[0], nearest[0]) and torch.equal(ours[1], nearest[1])


def test_a_table_that_multiplies_nothing_is_rounded_to_nearest() -> None:
    w, scheme = weight(2), QuantScheme(4, 32)
    ours, nearest = (quantized(method, w, scheme, None) for method in ("gptq", "round_to_nearest"))
    assert torch.equal(ours[0], nearest[0]) and torch.equal(ours[1], nearest[1])


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("tokens", [0, 1, 40, 400])
def test_whatever_the_text_shows_codes_and_scales_fit_the_grid(
    scheme: QuantScheme, tokens: int
) -> None:
    w, h = weight(3), moments(3, tokens) if tokens else np.zeros((COLUMNS, COLUMNS))
    w[0] = 0
    w[1] = w[1].abs()
    w[2] = -w[2].abs()
    w[:, 7] = 0
    h[5] = h[:, 5] = 0
    codes, scales = quantized("gptq", w, scheme, h)
    lowest, highest = (-8, 7) if scheme.bits == 4 else (-127, 127)
    assert codes.dtype == torch.int8 and codes.min() >= lowest and codes.max() <= highest
    assert torch.equal(scales, scales.bfloat16().float()) and bool((scales > 0).all())
    assert torch.isfinite(restored(codes, scales)).all()
    assert (restored(codes, scales)[0].abs() < 1e-20).all()
