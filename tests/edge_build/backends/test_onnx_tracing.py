"""Names of what layers share in a traced graph."""

import math

from hypothesis import given
from hypothesis import strategies as st

from pocketlm.edge_build.backends.onnx.tracing import rotation_name
from pocketlm.models.config import LayerConfig

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
