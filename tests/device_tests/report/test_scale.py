"""Axes and places of labels."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.device_tests.report.scale import Scale, rows_of_labels, spread, ticks

highs = st.floats(1e-6, 1e12)


@given(highs, st.integers(2, 12))
def test_ticks_are_round_and_few(high: float, most: int) -> None:
    found = ticks(0, high, most)
    assert found[0] == 0
    assert len(found) <= most
    assert found[-1] <= high * (1 + 1e-6)
    steps = [b - a for a, b in pairwise(found)]
    for step in steps:
        assert step == pytest.approx(steps[0])
        digits = f"{step:.6e}".split("e")[0].rstrip("0").rstrip(".")
        assert digits in ("1", "2", "5")


@given(st.integers(0, 100_000), st.integers(1, 100_000), st.integers(2, 12))
def test_ticks_between_two_values_stay_between_them(low: int, span: int, most: int) -> None:
    found = ticks(low, low + span, most)
    assert len(found) <= most
    assert all(low <= value * (1 + 1e-6) and value <= (low + span) * (1 + 1e-6) for value in found)


def test_ticks_of_known_axes() -> None:
    assert ticks(0, 21.9, 9) == (0, 5, 10, 15, 20)
    assert ticks(0, 0.3, 4) == pytest.approx((0, 0.1, 0.2, 0.3))
    assert ticks(513, 768, 9) == (550, 600, 650, 700, 750)


def test_values_outside_an_axis_stand_at_its_end() -> None:
    scale = Scale(0, 10, 100, 0)
    assert [scale.pixel(v) for v in (-1, 0, 5, 10, 11)] == [100, 100, 50, 0, 0]


@given(st.lists(st.floats(0, 300), max_size=20), st.floats(1, 40))
def test_spread_labels_stay_inside_and_apart(wanted: list[float], gap: float) -> None:
    wanted.sort()
    found = spread(wanted, gap, 0, 300)
    assert len(found) == len(wanted)
    assert all(-1e-6 <= place <= 300 + 1e-6 for place in found)
    least = min(gap, 300 / max(len(wanted) - 1, 1))
    assert all(b - a >= least - 1e-6 for a, b in pairwise(found))


def test_labels_with_room_stay_where_they_want() -> None:
    assert spread([10, 100, 200], 20, 0, 300) == (10, 100, 200)


spans = st.lists(st.tuples(st.floats(0, 500), st.floats(1, 100)), max_size=12)


@given(spans)
def test_labels_of_a_row_stand_apart(found: list[tuple[float, float]]) -> None:
    labels = sorted((start, start + width) for start, width in found)
    rows = rows_of_labels(labels, gap=5)
    for row in set(rows):
        in_row = [label for label, its in zip(labels, rows, strict=True) if its == row]
        assert all(after[0] >= before[1] + 5 for before, after in pairwise(in_row))
