"""The rule by which one candidate is taken, and why each other lost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.advisor.choosing import Figures, Objective, choose, dominates, nearest

SMALL = Figures("small", 100_000_000, 0.20, 0.01, 0.70, 40.0)
MIDDLE = Figures("middle", 200_000_000, 0.05, 0.002, 0.85, 30.0)
LARGE = Figures("large", 300_000_000, 0.01, 0.001, 0.95, 20.0)
ALL = (SMALL, MIDDLE, LARGE)
CLOSEST = Objective(has_memory_limit=True, least_agreement=None)

shares = st.floats(0, 1)
figures = st.builds(
    Figures,
    name=st.sampled_from(["a", "b", "c", "d"]),
    # Few values, so that there are equal ones.
    memory_bytes=st.sampled_from([100, 200, 300]),
    kl_nats=st.sampled_from([0.0, 0.01, 0.011, 0.2]),
    kl_error_nats=st.sampled_from([0.0, 0.002]),
    agreement=shares,
    decode_tokens_per_s=st.floats(1, 100),
    is_tight=st.booleans(),
)
objectives = st.builds(Objective, st.booleans(), st.none() | shares)


def chosen(measured: tuple[Figures, ...], objective: Objective) -> str | None:
    found = [one.name for one in choose(measured, objective) if one.status == "chosen"]
    return found[0] if found else None


def reasons(measured: tuple[Figures, ...], objective: Objective) -> dict[str, str]:
    return {one.name: one.reason for one in choose(measured, objective)}


def test_the_closest_that_fits_is_taken() -> None:
    assert chosen(ALL, CLOSEST) == "large"
    assert chosen(ALL[:2], CLOSEST) == "middle"
    assert reasons(ALL, CLOSEST)["middle"] == (
        "further away than large: KL 0.0500 against 0.0100; smaller: 200 MB against 300 MB"
    )


def test_with_a_least_agreement_alone_the_smallest_is_taken() -> None:
    objective = Objective(has_memory_limit=False, least_agreement=0.8)
    assert chosen(ALL, objective) == "middle"
    assert reasons(ALL, objective) == {
        "small": "agreement 70.0 % is under 80.0 %",
        "middle": "",
        "large": "larger than middle: 300 MB against 200 MB; closer than asked for: "
        "KL 0.0100 against 0.0500",
    }


def test_with_both_limits_the_closest_is_taken() -> None:
    assert chosen(ALL, Objective(has_memory_limit=True, least_agreement=0.8)) == "large"


def test_of_those_within_the_standard_error_the_smallest_is_taken() -> None:
    near = replace(MIDDLE, name="near", kl_nats=0.0109)
    assert chosen((*ALL, near), CLOSEST) == "near"
    assert reasons((*ALL, near), CLOSEST)["large"] == (
        "larger than near: 300 MB against 200 MB; closer by no more than its error: "
        "KL 0.0100 against 0.0109"
    )
    assert chosen((*ALL, replace(near, kl_nats=0.0111)), CLOSEST) == "large"


def test_of_equal_memory_the_closer_and_then_the_faster_is_taken() -> None:
    further = replace(LARGE, name="further", kl_nats=0.0105)
    slower = replace(LARGE, name="slower", decode_tokens_per_s=19.0)
    assert chosen((further, slower, LARGE), CLOSEST) == "large"
    said = reasons((further, slower, LARGE), CLOSEST)
    assert said["further"].startswith("further away than large in the same memory: KL 0.0105")
    assert said["slower"] == "decodes no faster than large, and else the same"


def test_what_is_larger_and_further_away_says_so() -> None:
    worse = replace(LARGE, name="worse", memory_bytes=400_000_000, kl_nats=0.3)
    assert reasons((*ALL, worse), CLOSEST)["worse"] == "larger and further away than large"
    same = replace(LARGE, name="same", memory_bytes=400_000_000)
    assert reasons((*ALL, same), CLOSEST)["same"] == (
        "larger than large and no closer: 400 MB against 300 MB"
    )


def test_what_fits_comes_before_what_is_tight() -> None:
    tight = replace(LARGE, is_tight=True)
    assert chosen((SMALL, MIDDLE, tight), CLOSEST) == "middle"
    assert reasons((SMALL, MIDDLE, tight), CLOSEST)["large"] == (
        "tight: the system would kill other apps; middle fits"
    )
    assert chosen((tight,), CLOSEST) == "large"


def test_nobody_is_taken_where_nobody_agrees() -> None:
    objective = Objective(has_memory_limit=True, least_agreement=0.99)
    assert chosen(ALL, objective) is None
    assert {one.status for one in choose(ALL, objective)} == {"too far"}
    assert nearest(ALL) is LARGE


def test_the_one_that_another_beats_in_both_is_marked() -> None:
    beaten = replace(MIDDLE, name="beaten", kl_nats=0.3)
    marked = {one.name for one in choose((*ALL, beaten), CLOSEST) if one.is_dominated}
    assert marked == {"beaten"}
    assert not dominates(MIDDLE, replace(MIDDLE, name="twin"))


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (CLOSEST, "least KL of those that fit; of those within its standard error least memory"),
        (Objective(False, None), "least KL of those; "),
        (Objective(True, 0.75), "that fit with the same top token for 75.0 % or more"),
        (Objective(False, 0.75), "least memory of those with the same top token for 75.0 %"),
    ],
)
def test_the_rule_is_in_words(objective: Objective, words: str) -> None:
    assert words in objective.rule


@given(st.lists(figures, min_size=1, max_size=6), objectives)
def test_one_is_taken_exactly_where_one_agrees(
    measured: list[Figures], objective: Objective
) -> None:
    found = choose(measured, objective)
    assert [one.name for one in found] == [one.name for one in measured]
    least = objective.least_agreement or 0.0
    taken = [
        one for one, standing in zip(measured, found, strict=True) if standing.status == "chosen"
    ]
    assert len(taken) == any(one.agreement >= least for one in measured)
    for one, standing in zip(measured, found, strict=True):
        assert (standing.reason == "") == (standing.status == "chosen")
        assert (standing.status == "too far") == (one.agreement < least)


@given(st.lists(figures, min_size=1, max_size=6), objectives)
def test_no_other_that_qualifies_is_better_in_what_was_asked_for(
    measured: list[Figures], objective: Objective
) -> None:
    found = zip(measured, choose(measured, objective), strict=True)
    taken = next((one for one, standing in found if standing.status == "chosen"), None)
    if taken is None:
        return
    least = objective.least_agreement or 0.0
    others = [one for one in measured if one.agreement >= least and one.is_tight <= taken.is_tight]
    for other in others:
        if objective.wants_least_memory:
            assert taken.memory_bytes <= other.memory_bytes
        else:
            closest = min(others, key=lambda one: (one.kl_nats, one.kl_error_nats))
            assert taken.kl_nats <= closest.kl_nats + closest.kl_error_nats
            assert not (dominates(other, taken) and other.memory_bytes < taken.memory_bytes)


@given(st.lists(figures, min_size=1, max_size=6, unique_by=lambda one: one.name), objectives)
def test_the_order_of_candidates_decides_nothing(
    measured: list[Figures], objective: Objective
) -> None:
    assert chosen(tuple(measured), objective) == chosen(tuple(reversed(measured)), objective)


@given(st.lists(figures, min_size=1, max_size=6))
def test_somebody_is_not_dominated(measured: list[Figures]) -> None:
    assert not all(one.is_dominated for one in choose(measured, CLOSEST))
