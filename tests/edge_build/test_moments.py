"""Second moments, half of which are computed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.edge_build.calibration import moments
from pocketlm.edge_build.calibration.moments import second_moments


@given(st.integers(1, 20), st.integers(1, 40), st.integers(1, 16))
def test_they_are_the_product_by_itself(tokens: int, size: int, at_once: int) -> None:
    x = torch.randn(tokens, size, generator=torch.Generator().manual_seed(size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "_COLUMNS", at_once)
        found = second_moments(x)
    # Sums of the same 20 products at most, in another order.
    torch.testing.assert_close(found, x.T @ x, rtol=1e-5, atol=1e-5)
