"""The arithmetic of the bar."""

from hypothesis import given
from hypothesis import strategies as st

from pocketlm.edge_build.progress_clock import BuildClock


def test_a_stage_counts_by_its_expected_seconds() -> None:
    clock = BuildClock({"a": 10.0, "b": 30.0})
    clock.start("a", now=100.0)
    clock.finish(now=110.0)
    assert clock.fraction(now=110.0) == 0.25
    clock.start("b", now=110.0)
    clock.advance(1, 2)
    assert clock.fraction(now=110.0) == 0.625


def test_a_stage_that_says_nothing_moves_with_time_and_is_never_done() -> None:
    clock = BuildClock({"a": 10.0})
    clock.start("a", now=0.0)
    assert clock.fraction(now=5.0) == 0.5
    assert clock.fraction(now=1000.0) == 0.95
    clock.finish(now=1000.0)
    assert clock.fraction(now=1000.0) == 1.0


def test_a_stage_that_says_much_is_taken_at_its_word() -> None:
    clock = BuildClock({"a": 10.0})
    clock.start("a", now=0.0)
    clock.advance(30, 100)
    assert clock.fraction(now=9.0) == 0.3
    assert clock.remaining_s(now=9.0) == 21.0


def test_a_stage_that_says_little_moves_between_its_words() -> None:
    clock = BuildClock({"a": 10.0})
    clock.start("a", now=0.0)
    clock.advance(1, 5)
    assert clock.fraction(now=1.0) == 0.2
    assert clock.fraction(now=4.0) == 0.4


def test_the_rest_takes_the_pace_of_what_is_done() -> None:
    clock = BuildClock({"a": 10.0, "b": 30.0})
    clock.start("a", now=0.0)
    clock.finish(now=20.0)  # half as fast as expected
    assert clock.remaining_s(now=20.0) == 60.0
    clock.start("b", now=20.0)
    assert clock.remaining_s(now=50.0) == 30.0


def test_before_anything_is_done_the_expectation_stands() -> None:
    assert BuildClock({"a": 10.0, "b": 30.0}).remaining_s(now=5.0) == 40.0


def test_a_stage_taken_over_leaves_the_rest_as_the_whole() -> None:
    clock = BuildClock({"read": 10.0, "a": 80.0, "b": 10.0})
    clock.start("read", now=0.0)
    clock.finish(now=10.0)
    clock.take_over("a")
    assert clock.fraction(now=10.0) == 0.5
    assert clock.remaining_s(now=10.0) == 10.0


@given(
    st.lists(st.tuples(st.integers(0, 20), st.floats(0, 50)), max_size=30),
    st.sampled_from([5, 20]),
    st.floats(0.1, 100),
    st.floats(0.1, 100),
)
def test_the_bar_never_goes_back_nor_over_the_end(
    steps: list[tuple[int, float]], total: int, first_s: float, second_s: float
) -> None:
    clock = BuildClock({"a": first_s, "b": second_s})
    now, shown = 0.0, []
    for i, (done, passed_s) in enumerate(steps):
        if i % 10 == 0:
            if clock.name:
                clock.finish(now)
            clock.start("a" if i < 10 else "b", now)
            if i >= 20:
                break
        now += passed_s
        clock.advance(done, total)
        shown.append(clock.fraction(now))
        assert clock.remaining_s(now) >= 0
    assert shown == sorted(shown)
    assert all(0 <= fraction <= 1.000001 for fraction in shown)
