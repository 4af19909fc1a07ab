"""What both charts stand in."""

from hypothesis import given
from hypothesis import strategies as st

from pocketlm.device_tests.report.plot import axis_unit, thinned


@given(
    st.lists(st.tuples(st.floats(0, 900), st.floats(0, 400)), min_size=1, max_size=400),
    st.integers(1, 30),
)
def test_thinning_keeps_ends_and_extremes(points: list[tuple[float, float]], columns: int) -> None:
    points.sort()
    kept = thinned(points, columns)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {min(y for _, y in kept), max(y for _, y in kept)} == {
        min(y for _, y in points),
        max(y for _, y in points),
    }
    assert kept == sorted(kept, key=lambda point: point[0])
    assert len(kept) <= max(2 * columns, 4 * (columns + 1))


def test_an_axis_has_short_numbers() -> None:
    assert [axis_unit(n).name for n in (2e9, 1e9, 999e6, 2e6, 5e3)] == [
        "GB", "GB", "MB", "MB", "kB",
    ]  # fmt: skip
