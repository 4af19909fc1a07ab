from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.runtime_py.logits_digest import SUMS, greedy_margin, make_digest, row_sums
from pocketlm.runtime_py.typed_json import FieldError

LOGITS = st.integers(16, 300).flatmap(
    lambda size: st.integers(0, 2**32).map(
        lambda seed: np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    )
)


@given(LOGITS)
def test_a_digest_finds_no_error_in_its_own_row(logits: Any) -> None:
    # Nine digits tell float32 values apart; std and mean are rounded to as many.
    assert make_digest(logits, 0).error(logits) < 1e-7


@given(LOGITS, st.floats(0.01, 10), st.data())
def test_a_digest_measures_the_largest_change_in_units_of_std(
    logits: Any, change: float, data: Any
) -> None:
    digest = make_digest(logits, 0)
    changed = logits.copy()
    changed[data.draw(st.sampled_from([*digest.top_ids, *digest.sample_ids]))] += change
    # float32 addition to values of about one.
    assert digest.error(changed) >= change / digest.std * (1 - 1e-4) - 1e-5


def test_samples_are_spread_over_the_vocabulary() -> None:
    digest = make_digest(np.arange(640, dtype=np.float32), 3)
    assert digest.position == 3
    assert digest.sample_ids == tuple(range(0, 640, 10))
    assert digest.top_ids == tuple(range(639, 631, -1))
    assert digest.top_logits[0] == 639


def test_a_small_vocabulary_is_sampled_whole() -> None:
    assert make_digest(np.arange(10, dtype=np.float32), 0).sample_ids == tuple(range(10))


def test_a_shift_of_unsampled_logits_shows_in_the_mean() -> None:
    logits = np.random.default_rng(1).standard_normal(6400).astype(np.float32)
    digest = make_digest(logits, 0)
    shifted = logits + 0.5
    kept = [*digest.top_ids, *digest.sample_ids]
    shifted[kept] = logits[kept]
    assert digest.error(shifted) > 0.4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_an_infinite_error(value: float) -> None:
    logits = np.arange(100, dtype=np.float32)
    digest = make_digest(logits, 0)
    logits[37] = value
    assert digest.error(logits) == float("inf")


def test_a_row_that_is_too_short_is_an_infinite_error() -> None:
    logits = np.arange(100, dtype=np.float32)
    assert make_digest(logits, 0).error(logits[:50]) == float("inf")


def test_another_number_of_sums_than_the_row_is_cut_into_is_an_infinite_error() -> None:
    row = np.random.default_rng(1).standard_normal(512).astype(np.float32)
    digest = make_digest(row, 0)
    for lost in (1, 2, 6):
        assert replace(digest, sums=digest.sums[lost:]).error(row) == float("inf")


@pytest.mark.parametrize("name", ["top_ids", "sample_ids"])
def test_an_id_below_zero_is_refused(name: str) -> None:
    digest = make_digest(np.arange(100, dtype=np.float32), 7)
    ids = (-1, *getattr(digest, name)[1:])
    with pytest.raises(FieldError, match=f"digest of position 7: {name} has -1; must be 0"):
        replace(digest, **{name: ids})  # type: ignore[arg-type]


def test_the_margin_is_the_lead_in_units_of_std_among_known_ids() -> None:
    logits = np.array([0, 4, 1, 100], np.float32)
    expected = 3 / np.std(logits, dtype=np.float64)
    assert greedy_margin(logits, 3) == pytest.approx(expected)
    assert greedy_margin(np.array([2, 2, 1], np.float32), 3) == 0


def test_an_only_id_leads_by_any_margin() -> None:
    assert greedy_margin(np.array([1, 2], np.float32), 1) > 1e30


def test_a_brief_digest_keeps_few_columns_and_no_sums() -> None:
    row = np.arange(640, dtype=np.float32)
    brief = make_digest(row, 0, brief=True, rounding=0.25)
    assert (len(brief.ids), brief.sums, brief.rounding) == (16, (), 0.25)
    assert brief.error(row) < 1e-7


@given(LOGITS, st.floats(1, 10), st.data())
def test_a_change_of_any_one_column_shows_in_the_sums(
    logits: Any, change: float, data: Any
) -> None:
    digest = make_digest(logits, 0)
    changed = logits.copy()
    changed[data.draw(st.integers(0, len(logits) - 1))] += change
    run = -(-len(logits) // SUMS)
    # float32 addition to values of about one.
    assert digest.error(changed) >= change / digest.std / np.sqrt(run) * (1 - 1e-4) - 1e-5


def test_the_signs_of_sums_are_those_of_the_published_generator() -> None:
    """Other readers must find the same: the first values of SplitMix64 from seed 0."""
    # 0xe220a8397b1dcdaf 0x6e789e6aa1b965f4 0x06c45d188009454f 0xf88bb8a8724c81ec
    assert row_sums(np.ones(4, np.float32), 4).tolist() == [-1, 1, 1, -1]


def test_independent_errors_of_columns_stay_as_small_in_the_sums() -> None:
    generator = np.random.default_rng(3)
    errors = generator.standard_normal(64 * 1024).astype(np.float32)
    sums = row_sums(errors, SUMS)
    # 64 draws of a deviation of 1: within six of it, and about 1 together.
    assert np.abs(sums).max() < 6
    assert 0.5 < sums.std() < 2


@given(LOGITS)
def test_the_largest_are_kept_in_order_and_ties_by_id(logits: Any) -> None:
    rounded = np.round(logits)
    expected = np.argsort(-rounded, kind="stable")[:8]
    assert make_digest(rounded, 0).top_ids == tuple(expected.tolist())
