"""Lines drawn with characters."""

from hypothesis import given
from hypothesis import strategies as st

from pocketlm.device_tests.report.sparkline import block_rows, resampled, ruler


def test_a_peak_is_not_lost_between_columns() -> None:
    points = [(i / 100, 1.0) for i in range(100)]
    points[37] = (0.37, 9.0)
    assert resampled(points, 1.0, 4) == (1.0, 9.0, 1.0, 1.0)


def test_a_span_without_samples_has_the_value_before() -> None:
    assert resampled([(0.0, 2.0), (0.9, 5.0)], 1.0, 4) == (2.0, 2.0, 2.0, 5.0)


@given(
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 1e10)), min_size=1, max_size=200),
    st.integers(1, 120),
)
def test_resampling_keeps_the_largest(points: list[tuple[float, float]], columns: int) -> None:
    points.sort()
    found = resampled(points, points[-1][0], columns)
    assert len(found) == columns
    assert max(found) == max(value for _, value in points)


def test_blocks_rise_with_the_value() -> None:
    assert block_rows([0, 1, 4, 8], 8, rows=1) == (" ▁▄█",)
    assert block_rows([0, 4, 8], 8, rows=2) == ("  █", " ██")
    assert block_rows([0, 1, 8], 8, rows=1, as_ascii=True) == (" .@",)


def test_nothing_but_nothing_is_blank() -> None:
    assert block_rows([0.0, 1e-9], 1e9, rows=1) == (" ▁",)
    assert block_rows([0.0], 0.0, rows=1) == (" ",)


def test_a_ruler_names_spans_that_have_room() -> None:
    assert ruler([("started", 0.1), ("loaded", 5.0), ("decoded", 10.0)], 10.0, 20) == (
        "loaded   |decoded  |"
    )


@given(st.lists(st.tuples(st.text("abc", max_size=9), st.floats(0, 9)), max_size=9))
def test_a_ruler_is_as_wide_as_the_drawing(ends: list[tuple[str, float]]) -> None:
    ends.sort(key=lambda end: end[1])
    assert len(ruler(ends, 9.0, 40)) == 40
