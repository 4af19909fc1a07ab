"""Names of what layers share in a traced graph."""

import math

from hypothesis import given
from hypothesis import strategies as st

from pocketlm.edge_build.backends.onnx.tracing import rotation_names
from pocketlm.models.config import Rotary

positive = st.floats(min_value=1e-30, max_value=1e30)


@given(theta=positive, factor=positive, up=st.booleans())
def test_the_next_number_has_tables_of_its_own(theta: float, factor: float, up: bool) -> None:
    near = math.nextafter(theta, math.inf if up else 0)
    names = [*rotation_names((Rotary(theta, factor, 8), Rotary(near, factor, 8))).values()]
    assert names[0] != names[1]
    assert all(name.isidentifier() or name[0].isdigit() for name in names)


def test_a_base_that_agrees_in_six_digits_has_tables_of_its_own() -> None:
    bases = [1_000_000.0, 1_000_001.0, 999_999.9]
    names = rotation_names(tuple(Rotary(base, 1.0, 8) for base in bases))
    assert len({*names.values()}) == 3


def test_tables_of_another_size_have_names_of_their_own() -> None:
    names = rotation_names((Rotary(1e4, 1.0, 8), Rotary(1e4, 1.0, 4)))
    assert [*names.values()] == ["10000_1_8", "10000_1_4"]
    assert [*rotation_names((Rotary(1e4, 1.0, 8),)).values()] == ["10000_1"]
