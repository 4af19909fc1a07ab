import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_py.errors import RunError
from runtime_py.golden import Golden, greedy_margin, make_digest

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


def test_the_margin_is_the_lead_in_units_of_std_among_known_ids() -> None:
    logits = np.array([0, 4, 1, 100], np.float32)
    expected = 3 / np.std(logits, dtype=np.float64)
    assert greedy_margin(logits, 3) == pytest.approx(expected)
    assert greedy_margin(np.array([2, 2, 1], np.float32), 3) == 0


def test_an_only_id_leads_by_any_margin() -> None:
    assert greedy_margin(np.array([1, 2], np.float32), 1) > 1e30


@pytest.fixture
def golden(fake_bundle: Any) -> Golden:
    return Golden.from_json((fake_bundle.folder / "golden/onnx.json").read_text())


def test_reading_what_was_written_gives_the_same_answers(golden: Golden) -> None:
    assert Golden.from_json(golden.to_json()) == golden
    assert len(golden.cases) == 2


def test_a_case_finds_the_digest_of_a_step(golden: Golden) -> None:
    case = golden.cases[0]
    found = case.digest(2)
    assert found is not None
    assert found.position == len(case.prompt_ids) + 1
    assert case.digest(99) is None


CHANGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda d: d.update(format_version=2), "format version 2, this pocketlm reads 1; update"),
    (lambda d: d.pop("format_version"), "format version None"),
    (lambda d: d.pop("tolerance"), "tolerance is missing"),
    (lambda d: d["cases"][0].update(prompt_ids=["a"]), "cases[0].prompt_ids[0]: expected an int"),
    (lambda d: d["cases"][0].update(prompt_ids=[]), "needs a prompt and a continuation"),
    (lambda d: d["cases"][0].update(margins=[]), "0 margins for 4 continuation_ids"),
    (
        lambda d: d["cases"][0]["logits"][0].update(position=50),
        "case 'short': digest of position 50 is outside",
    ),
    (lambda d: d["cases"][0]["logits"][0].update(std=0.0), "std=0.0 is not above 0"),
    (
        lambda d: d["cases"][0]["logits"][0].update(top_logits=[1.0]),
        "8 top_ids and 1 top_logits; both must have the same length",
    ),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_wrong_answers_are_named(
    golden: Golden, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    document = json.loads(golden.to_json())
    change(document)
    with pytest.raises(RunError) as caught:
        Golden.from_json(json.dumps(document))
    assert message in str(caught.value)
    assert "build the bundle again" in str(caught.value)
