"""The 4-bit layout."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pocketlm.runtime_py.int4_packing import (
    pack_int4,
    unpack_int4,
    unpack_int4_as_float,
)

codes = arrays(
    np.int8,
    st.tuples(st.integers(1, 5), st.integers(1, 16).map(lambda n: 2 * n)),
    elements=st.integers(-8, 7),
)


@given(codes)
def test_unpacking_restores_what_was_packed(matrix: np.ndarray) -> None:
    np.testing.assert_array_equal(unpack_int4(pack_int4(matrix)), matrix)


@given(codes)
def test_both_ways_of_unpacking_agree(matrix: np.ndarray) -> None:
    floats = unpack_int4_as_float(pack_int4(matrix))
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(floats, matrix)


def test_even_columns_go_to_the_low_half() -> None:
    packed = pack_int4(np.array([[-8, 7, 0, -1]], dtype=np.int8))
    assert packed.tolist() == [[0xF0, 0x78]]


def test_codes_out_of_range_are_refused() -> None:
    with pytest.raises(AssertionError, match=r"outside -8\.\.7"):
        pack_int4(np.array([[8, 0]], dtype=np.int8))


def test_an_odd_number_of_columns_is_refused() -> None:
    with pytest.raises(AssertionError, match="pairs"):
        pack_int4(np.zeros((1, 3), dtype=np.int8))
