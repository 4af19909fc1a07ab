"""Prediction against measurement, line by line."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.device_tests.memory.ledger import BAND_BYTES, BAND_RATIO, compare, is_within
from pocketlm.device_tests.memory.values import PartBytes
from pocketlm.runtime_py.memory_prediction import PredictedPart, Prediction

MB = 1_000_000
PREDICTION = Prediction(
    (
        PredictedPart("weights, mapped", "clean", 10 * MB, "the program"),
        PredictedPart("weights, packed", "dirty", 400 * MB, "codes"),
        PredictedPart("KV cache, global", "dirty", 30 * MB, "slots"),
    ),
    load_peak_bytes=500 * MB,
    load_arithmetic="",
)
MEASURED = (
    PartBytes("weights, mapped", "clean", 11 * MB),
    PartBytes("weights, packed", "dirty", 419 * MB),
    PartBytes("KV cache, global", "dirty", 30 * MB),
)


@pytest.mark.parametrize(
    ("predicted", "measured", "within"),
    [
        (0, 2 * MB, True),
        (0, 2 * MB + 1, False),
        (3 * MB, MB, True),
        (95 * MB, 100 * MB, True),
        (105 * MB, 100 * MB, True),
        (105 * MB + 1, 100 * MB, False),
        (94 * MB, 100 * MB, False),
    ],
)
def test_band_is_a_twentieth_or_two_megabytes(predicted: int, measured: int, within: bool) -> None:
    assert (BAND_RATIO, BAND_BYTES) == (0.05, 2 * MB)
    assert is_within(predicted, measured) == within


def test_everything_within_passes() -> None:
    ledger = compare(PREDICTION, MEASURED, 490 * MB)
    assert ledger.passed
    assert [(line.part, line.within, line.arithmetic) for line in ledger.lines] == [
        ("weights, mapped", True, "the program"),
        ("weights, packed", True, "codes"),
        ("KV cache, global", True, "slots"),
    ]
    assert (ledger.predicted_peak_bytes, ledger.measured_peak_bytes) == (500 * MB, 490 * MB)


def test_one_line_outside_fails() -> None:
    off = (*MEASURED[:1], PartBytes("weights, packed", "dirty", 430 * MB), MEASURED[2])
    ledger = compare(PREDICTION, off, 490 * MB)
    assert not ledger.passed
    assert [line.within for line in ledger.lines] == [True, False, True]


def test_a_peak_outside_fails() -> None:
    assert not compare(PREDICTION, MEASURED, 530 * MB).passed


def test_a_part_that_is_missing_counts_as_nothing() -> None:
    ledger = compare(PREDICTION, MEASURED[:2], 490 * MB)
    line = ledger.lines[-1]
    assert (line.part, line.measured_bytes, line.within) == ("KV cache, global", 0, False)


def test_what_nobody_predicted_is_shown_and_not_judged() -> None:
    more = (*MEASURED, PartBytes("weights, packed", "clean", 50 * MB))
    ledger = compare(PREDICTION, more, 490 * MB)
    (line,) = (line for line in ledger.lines if line.predicted_bytes is None)
    assert (line.part, line.kind, line.measured_bytes) == ("weights, packed", "clean", 50 * MB)
    assert line.within is None and line.arithmetic == ""
    assert ledger.passed


@pytest.mark.parametrize(("unattributed", "passed"), [(20 * MB, True), (30 * MB, False)])
def test_only_a_twentieth_may_be_unattributed(unattributed: int, passed: bool) -> None:
    more = (*MEASURED, PartBytes("unattributed", "dirty", unattributed))
    ledger = compare(PREDICTION, more, 490 * MB)
    assert ledger.unattributed_bytes == unattributed
    assert "unattributed" not in {line.part for line in ledger.lines}
    assert ledger.passed == passed


def test_a_run_that_is_larger_than_its_loading_has_its_peak_at_the_end() -> None:
    late = replace(PREDICTION, load_peak_bytes=1)
    assert compare(late, MEASURED, 450 * MB).predicted_peak_bytes == 440 * MB


def test_what_a_kernel_maps_around_faults_is_not_held_against_a_prediction() -> None:
    folios = (PartBytes("weights, mapped", "clean", 40 * MB), *MEASURED[1:])
    assert not compare(PREDICTION, folios, 560 * MB).passed
    ledger = compare(PREDICTION, folios, 520 * MB, whole_folios=True)
    assert [line.within for line in ledger.lines] == [None, True, True]
    assert ledger.passed and ledger.whole_folios
    # The peak may hold what the clean line has more, and nothing else.
    assert compare(PREDICTION, folios, 554 * MB, whole_folios=True).passed
    assert not compare(PREDICTION, folios, 560 * MB, whole_folios=True).passed


def test_clean_lines_are_judged_where_they_are_too_small_and_dirty_ones_always() -> None:
    few = (*MEASURED[1:],)
    assert not compare(PREDICTION, few, 490 * MB, whole_folios=True).passed
    off = (MEASURED[0], PartBytes("weights, packed", "dirty", 430 * MB), MEASURED[2])
    assert not compare(PREDICTION, off, 490 * MB, whole_folios=True).passed


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_band_takes_what_is_exact_and_nothing_far(predicted: int, measured: int) -> None:
    assert is_within(measured, measured)
    if predicted > 1.06 * measured + BAND_BYTES or predicted < 0.94 * measured - BAND_BYTES:
        assert not is_within(predicted, measured)
