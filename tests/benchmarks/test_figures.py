"""Medians, spreads and ratios of rounds."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Spread, ratio, summarize


def raw(prefill_s: list[float], step_s: float, anonymous: int) -> dict[str, Any]:
    return {
        "load_s": 1.0,
        "first_token_s": 3.0,
        "prefill_s": prefill_s,
        "interpreter": {"anonymous_bytes": 30, "file_bytes": 20},
        "decode": [
            {
                "depth_tokens": 1024,
                "median_s": step_s,
                "anonymous_bytes": anonymous,
                "file_bytes": 520,
            }
        ],
    }


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=7))
def test_median_lies_between_least_and_most(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread.least <= spread.median <= spread.most


def test_figures_are_medians_over_the_rounds() -> None:
    # Within a round the prompt's median counts, so one slow repeat does not.
    raws = [raw([2.0, 2.0, 9.0], 0.02, 130), raw([4.0] * 3, 0.05, 230), raw([1.0] * 3, 0.04, 180)]
    figures = summarize(raws, prefill_tokens=512)
    assert figures.prefill_tokens_per_s == Spread(256, 128, 512)
    assert figures.decode[0].tokens_per_s == Spread(25, 20, 50)


def test_interpreter_is_taken_off_each_kind_of_memory() -> None:
    figures = summarize([raw([1.0], 0.02, 130)], prefill_tokens=512)
    model = figures.decode[0].model
    assert model.anonymous_bytes.median == 100
    assert model.file_bytes.median == 500
    assert model.resident_bytes.median == 600
    assert figures.interpreter.resident_bytes.median == 50


def test_a_part_without_prefill_has_no_prefill_figure() -> None:
    assert summarize([raw([], 0.02, 130)], prefill_tokens=512).prefill_tokens_per_s is None


def test_ratio_keeps_three_digits() -> None:
    assert ratio(200, 150) == 1.33
