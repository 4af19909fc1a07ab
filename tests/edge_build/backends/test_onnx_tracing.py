"""Names of what layers share in a traced graph."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_build.backends.onnx.tracing import _rotary_tensors, rotation_name
from models.config import LayerConfig
from models.layers import inverse_frequencies, rotary_tables
from models.shapes import shape_of
from tests.conftest import TINY_PUBLISHED

positive = st.floats(min_value=1e-30, max_value=1e30)


@given(theta=positive, factor=positive, up=st.booleans())
def test_the_next_number_has_tables_of_its_own(theta: float, factor: float, up: bool) -> None:
    near = math.nextafter(theta, math.inf if up else 0)
    layer, other = LayerConfig(None, theta, factor), LayerConfig(None, near, factor)
    assert rotation_name(layer) != rotation_name(other)
    assert rotation_name(layer) == rotation_name(LayerConfig(8, theta, factor))
    assert rotation_name(layer).isidentifier() or rotation_name(layer)[0].isdigit()


def test_a_base_that_agrees_in_six_digits_has_tables_of_its_own() -> None:
    bases = [1_000_000.0, 1_000_001.0, 999_999.9]
    assert len({rotation_name(LayerConfig(None, base)) for base in bases}) == 3


@pytest.mark.parametrize("family", sorted(TINY_PUBLISHED))
def test_stored_tables_are_exact_whatever_torch_makes_of_a_cosine(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = shape_of("tiny", TINY_PUBLISHED[family]).config
    layer = config.layers[-1]
    expected = rotary_tables(torch.arange(1024), inverse_frequencies(layer, config.head_dim))
    cosine = torch.Tensor.cos
    monkeypatch.setattr(torch.Tensor, "cos", lambda x: cosine(x) + 1.5e-4)
    tensors = _rotary_tensors(config, (layer,), 1024)
    for kind, table in zip(("cosines", "sines"), expected, strict=True):
        (stored,) = tensors[f"{kind}_{rotation_name(layer)}"].pieces()
        # One step of a float32 below 1: torch's own rounding.
        np.testing.assert_allclose(stored, table.numpy(), rtol=0, atol=6e-8)
