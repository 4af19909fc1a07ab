"""The learning rate rises, is held, and falls."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.training.schedule import share_of_rate


@given(st.integers(1, 3000))
def test_every_step_takes_a_share_and_one_takes_it_whole(steps: int) -> None:
    shares = [share_of_rate(step, steps) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    assert max(shares) == 1
    # Once it falls, it never rises again.
    falls = [after < before for before, after in pairwise(shares)]
    assert falls == sorted(falls)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.02), (24, 0.5), (49, 1.0), (600, 1.0), (800, 0.5), (999, 0.0025)]
)
def test_it_is_held_until_three_fifths(step: int, share: float) -> None:
    assert share_of_rate(step, 1000) == pytest.approx(share)
