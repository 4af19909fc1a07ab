"""Constant scales of int8 caches: what they cover, and what they are measured on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_build.kv_calibration import HEADROOM, calibrate_kv, scales_of
from edge_build.kv_scales import LARGEST_CODE, KvScales
from edge_build.preparation import Preparation, prepare
from edge_build.progress import silent
from edge_build.quantization.apply import quantize_weights
from edge_build.reference import ReferenceModel
from edge_build.spec import BuildSpec
from models.layers import rotary_tables, rotate
from tests.conftest import PICO

SHARED, SIZE = 2, 16


def past(seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 9, SHARED, SIZE)
    pairs = [torch.randn(*shape, generator=generator) for _ in range(4)]
    return [(pairs[0], pairs[1]), (pairs[2], pairs[3])]


@given(st.integers(0, 100_000), st.integers(0, 20))
def test_a_key_stays_within_its_scale_wherever_it_is_rotated_to(position: int, seed: int) -> None:
    seen = past(seed)
    scales = scales_of(seen)
    frequencies = 10_000.0 ** -(torch.arange(SIZE // 2) / (SIZE // 2))
    tables = rotary_tables(torch.tensor([position]), frequencies)
    for layer, (key, _) in enumerate(seen):
        codes = rotate(key, *tables) / torch.from_numpy(scales.keys[layer])
        assert float(codes.abs().max()) <= LARGEST_CODE / HEADROOM * (1 + 1e-5)


def test_the_largest_value_of_each_channel_sets_its_scale() -> None:
    seen = past(3)
    scales = scales_of(seen)
    assert scales.keys.shape == scales.values.shape == (2, SHARED, SIZE)
    for layer, (_, value) in enumerate(seen):
        expected = HEADROOM / LARGEST_CODE * value.abs().amax(dim=(0, 1)).numpy()
        np.testing.assert_allclose(scales.values[layer], expected, rtol=1e-6)


def test_a_channel_that_is_always_zero_still_has_a_scale() -> None:
    zeros = torch.zeros(1, 3, SHARED, SIZE)
    scales = scales_of([(zeros, zeros)])
    assert (scales.keys > 0).all() and np.isfinite(1 / scales.values).all()


def test_scales_that_cannot_be_are_refused() -> None:
    good = np.ones((1, SHARED, SIZE), np.float32)
    for bad in (np.zeros_like(good), np.full_like(good, np.nan), good[0]):
        with pytest.raises(AssertionError):
            KvScales(good, bad)


@pytest.fixture
def prepared(tmp_path: Path) -> Preparation:
    spec = BuildSpec(PICO, tmp_path / "out", backends=("onnx",), kv="int8", context_length=64)
    return prepare(spec)


def test_calibration_covers_the_keys_and_values_of_its_text(
    prepared: Preparation, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    weights = quantize_weights(
        prepared.checkpoint, prepared.rules, tmp_path / "weights", silent
    ).weights
    steps: list[tuple[str, int, int, str]] = []
    scales = calibrate_kv(prepared, weights, lambda *step: steps.append(step))
    assert scales is not None
    # A short context bounds the text.
    assert steps[-1] == ("calibrating", 1, 1, "64 tokens")
    from edge_build.kv_calibration import _calibration_ids

    ids = _calibration_ids(prepared)
    assert ids[0] == prepared.text.bos_id and len(ids) == 64
    model = ReferenceModel(prepared.checkpoint.config, weights, "none")
    model.run(ids)
    for layer, (key, value) in enumerate(model.past):
        for x, own in ((key, scales.keys[layer]), (value, scales.values[layer])):
            codes = (x / torch.from_numpy(own)).abs().max()
            # Nothing of the text itself saturates, and the range is not wasted either.
            assert LARGEST_CODE / 2 < float(codes) <= LARGEST_CODE / HEADROOM * (1 + 1e-5)


def test_nothing_is_calibrated_unless_a_backend_wants_constant_scales(
    prepared: Preparation, tiny_checkpoint: Callable[[str], Path]
) -> None:
    exact = replace(prepared, spec=replace(prepared.spec, kv="float32"))
    steps: list[object] = []
    weights = None  # would fail if it were read
    assert calibrate_kv(exact, weights, lambda *step: steps.append(step)) is None  # type: ignore[arg-type]
    assert not steps
