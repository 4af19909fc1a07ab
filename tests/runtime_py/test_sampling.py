from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.sampling import (
    Sampler,
    SamplingOptions,
    candidates,
    greedy_id,
    penalized,
    published_options,
)

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40).map(
    lambda values: np.array(values, np.float32)
)
OPTIONS = st.builds(
    SamplingOptions,
    temperature=st.floats(0.01, 5),
    top_k=st.integers(0, 50),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)


def array(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


@given(LOGITS, OPTIONS)
def test_what_is_left_is_a_distribution_with_the_likeliest_first(
    logits: NDArray[np.float32], options: SamplingOptions
) -> None:
    ids, probabilities = candidates(logits, options)
    assert len(ids) == len(set(ids.tolist())) >= 1
    assert ids[0] == np.argmax(logits)
    # The sum of at most 40 rounded doubles.
    assert abs(probabilities.sum() - 1) < 1e-12
    assert (np.diff(probabilities) <= 0).all()


@given(LOGITS, OPTIONS)
def test_a_drawn_id_is_a_candidate_and_below_the_limit(
    logits: NDArray[np.float32], options: SamplingOptions
) -> None:
    limit = max(1, len(logits) // 2)
    sampler = Sampler(options, limit)
    allowed = candidates(logits[:limit], options)[0]
    assert all(sampler.choose(logits) in allowed for _ in range(5))


@given(LOGITS, OPTIONS)
def test_equal_seeds_draw_equal_ids(logits: NDArray[np.float32], options: SamplingOptions) -> None:
    first, second = (Sampler(options, len(logits)) for _ in range(2))
    assert [first.choose(logits) for _ in range(5)] == [second.choose(logits) for _ in range(5)]


@given(LOGITS, st.integers(1, 50))
def test_top_k_keeps_k_and_all_that_tie_with_the_last(
    logits: NDArray[np.float32], top_k: int
) -> None:
    ids, _ = candidates(logits, SamplingOptions(temperature=1, top_k=top_k))
    last = np.sort(logits)[::-1][min(top_k, len(logits)) - 1]
    assert sorted(ids.tolist()) == np.flatnonzero(logits >= last).tolist()


@given(LOGITS, st.floats(0.01, 0.99))
def test_top_p_keeps_the_fewest_that_reach_it(logits: NDArray[np.float32], top_p: float) -> None:
    everything = candidates(logits, SamplingOptions(temperature=1))[1]
    kept = len(candidates(logits, SamplingOptions(temperature=1, top_p=top_p))[0])
    # Sums of at most 40 doubles in another order.
    assert everything[:kept].sum() >= top_p - 1e-12
    assert everything[: kept - 1].sum() < top_p + 1e-12


@given(LOGITS, st.floats(0.01, 1))
def test_min_p_keeps_what_is_near_the_likeliest(logits: NDArray[np.float32], min_p: float) -> None:
    everything, probabilities = candidates(logits, SamplingOptions(temperature=1))
    kept, _ = candidates(logits, SamplingOptions(temperature=1, min_p=min_p))
    expected = everything[probabilities >= min_p * probabilities[0]]
    assert kept.tolist() == expected.tolist()


def test_filters_see_what_the_ones_before_left() -> None:
    # 4:2:1:1. Of the first two, 4/6 and 2/6, top_p 0.6 keeps one; of all four it would keep two.
    logits = np.log(array(4, 2, 1, 1))
    both = SamplingOptions(temperature=1, top_k=2, top_p=0.6)
    assert candidates(logits, both)[0].tolist() == [0]
    assert candidates(logits, SamplingOptions(temperature=1, top_p=0.6))[0].tolist() == [0, 1]


def test_temperature_comes_before_top_p() -> None:
    # At temperature 1/2 the odds 3:1 are 9:1.
    logits = np.log(array(3, 1))
    _, probabilities = candidates(logits, SamplingOptions(temperature=0.5))
    # float32 logits.
    assert probabilities == pytest.approx([0.9, 0.1], abs=1e-6)
    assert len(candidates(logits, SamplingOptions(temperature=0.5, top_p=0.8))[0]) == 1
    assert len(candidates(logits, SamplingOptions(temperature=1, top_p=0.8))[0]) == 2


def test_draws_follow_the_probabilities() -> None:
    logits = np.log(array(5, 3, 2))
    sampler = Sampler(SamplingOptions(temperature=1, seed=7), 3)
    counts = np.bincount([sampler.choose(logits) for _ in range(4000)], minlength=3) / 4000
    # Three standard deviations of a share of one half in 4000 draws are 0.024.
    assert counts == pytest.approx([0.5, 0.3, 0.2], abs=0.024)


def test_a_tiny_temperature_does_not_overflow() -> None:
    sampler = Sampler(SamplingOptions(temperature=1e-30, seed=1), 3)
    assert sampler.choose(array(1, 3, 2)) == 1


def test_temperature_zero_takes_the_likeliest_and_the_first_of_equals() -> None:
    sampler = Sampler(SamplingOptions(), 4)
    assert sampler.choose(array(1, 3, 3, 2)) == 1


def test_ids_without_a_token_are_never_chosen() -> None:
    logits = array(1, 2, 3, 99)
    assert greedy_id(logits, 3) == 2
    assert Sampler(SamplingOptions(), 3).choose(logits) == 2
    drawn = Sampler(SamplingOptions(temperature=9, seed=1), 3)
    assert {drawn.choose(logits) for _ in range(100)} == {0, 1, 2}


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_logit_that_is_not_a_number_is_reported(temperature: float) -> None:
    sampler = Sampler(SamplingOptions(temperature=temperature), 3)
    with pytest.raises(RunError, match=r"logit 1 is not a number.*pocketlm verify"):
        sampler.choose(array(1, np.nan, 5))


def test_infinite_logits_are_taken_or_left() -> None:
    sampler = Sampler(SamplingOptions(temperature=1, seed=1), 3)
    assert sampler.choose(array(1, np.inf, 5)) == 1
    assert {sampler.choose(array(-np.inf, 1, 1)) for _ in range(50)} == {1, 2}


def test_the_penalty_moves_seen_tokens_towards_unlikely_once() -> None:
    found = penalized(array(4, -4, 4, 0), [0, 1, 0, 0], 2)
    assert found.tolist() == [2, -8, 4, 0]


def test_greedy_obeys_the_penalty() -> None:
    sampler = Sampler(SamplingOptions(repetition_penalty=2), 3)
    assert sampler.choose(array(4, 3, 1), [0, 7]) == 1
    assert sampler.choose(array(4, 3, 1), []) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1}, "temperature=-1: must be 0 or more"),
        ({"temperature": float("nan")}, "temperature=nan: must be 0 or more"),
        ({"temperature": float("inf")}, "temperature=inf: must be 0 or more"),
        ({"top_k": -1}, "top_k=-1: must be 0 (all) or more"),
        ({"top_p": 0}, "top_p=0: must be above 0, at most 1"),
        ({"top_p": 1.1}, "top_p=1.1: must be above 0, at most 1"),
        ({"min_p": 1.5}, "min_p=1.5: must be from 0 to 1"),
        ({"repetition_penalty": 0}, "repetition_penalty=0: must be above 0; 1 is none"),
        ({"seed": -1}, "seed=-1: must be 0 or more"),
    ],
)
def test_options_out_of_range_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError) as caught:
        SamplingOptions(**values)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, SamplingOptions()),
        ({"do_sample": False, "top_k": 64, "temperature": 0.7}, SamplingOptions()),
        ({"do_sample": True}, SamplingOptions(temperature=1, top_k=50)),
        (
            {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": None},
            SamplingOptions(temperature=0.6, top_k=20, top_p=0.95),
        ),
        ({"repetition_penalty": 1.1}, SamplingOptions(repetition_penalty=1.1)),
        ({"do_sample": True, "top_k": 0, "min_p": 0.1}, SamplingOptions(1.0, 0, 1.0, 0.1)),
    ],
)
def test_the_checkpoint_s_defaults_are_read(
    document: dict[str, Any], expected: SamplingOptions
) -> None:
    assert published_options(document) == expected


@pytest.mark.parametrize("value", ["0.7", True, [1]])
def test_a_default_that_is_no_number_is_named(value: object) -> None:
    with pytest.raises(RunError, match=r"generation_config\.json: temperature is .* be a number"):
        published_options({"do_sample": True, "temperature": value})


SAMPLED = {"do_sample": True}
OFF = SamplingOptions(temperature=1.0)


@pytest.mark.parametrize(
    "document",
    [
        {"top_k": -1},
        {"top_k": 0},
        {"top_k": None},
        {"top_k": 0, "top_p": None},
        {"top_k": 0, "top_p": 2},
        {"top_k": 0.0, "min_p": None, "temperature": None},
    ],
)
def test_published_values_that_mean_off_are_off(document: dict[str, Any]) -> None:
    assert published_options({**SAMPLED, **document}) == OFF


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("top_k", "40"),
        ("top_k", 2.5),
        ("top_k", True),
        ("top_p", 0),
        ("top_p", -0.5),
        ("top_p", float("nan")),
        ("min_p", 1.5),
        ("temperature", -1),
        ("temperature", float("inf")),
        ("temperature", 10**400),
        ("repetition_penalty", 0),
        ("repetition_penalty", "1.1"),
        ("do_sample", "true"),
        ("do_sample", 1),
    ],
)
def test_a_published_value_that_cannot_be_meant_names_file_and_key(key: str, value: object) -> None:
    with pytest.raises(
        RunError, match=rf"generation_config\.json: {key} is .*; must be .*; correct"
    ):
        published_options({**SAMPLED, key: value})


@pytest.mark.parametrize(
    ("document", "typed", "expected"),
    [
        ({"top_k": "x"}, {"top_k": 5}, SamplingOptions(1.0, 5)),
        ({"temperature": "x"}, {"temperature": 0.5}, SamplingOptions(0.5, 50)),
        ({"top_k": "x", "top_p": -1}, {"temperature": 0}, SamplingOptions()),
        ({"do_sample": "x"}, {"temperature": 0.5}, SamplingOptions(0.5)),
        ({"repetition_penalty": None}, {"repetition_penalty": 1.2, "temperature": 0},
         SamplingOptions(repetition_penalty=1.2)),
    ],
)  # fmt: skip
def test_typed_options_win_over_a_file_that_cannot_be_read(
    document: dict[str, Any], typed: dict[str, Any], expected: SamplingOptions
) -> None:
    assert published_options({**SAMPLED, **document}, typed) == expected
