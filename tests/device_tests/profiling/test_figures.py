"""Figures that follow from a report's fields."""

from dataclasses import replace

import pytest

from pocketlm.device_tests.device.facts import EMULATED, Provenance
from pocketlm.device_tests.profiling.document import Step
from pocketlm.device_tests.profiling.figures import (
    UNATTRIBUTED,
    ledger_rows,
    load_s,
    peak_bytes,
    speeds,
)
from tests.device_tests.report.sample_reports import MB, failed_report, sample_report

STEPS = (
    Step(0.0, 2.0, 128, 128),
    Step(2.0, 1.0, 100, 228),
    Step(3.0, 0.1, 1, 229),
    Step(3.1, 0.3, 1, 230),
    Step(3.4, 1.0, 64, 294),
)


def test_speeds_are_tokens_over_time() -> None:
    found = speeds(replace(sample_report(), steps=STEPS))
    assert found is not None
    assert found.first_token_s == 3.0
    assert found.prefill_per_s == pytest.approx(292 / 4.0)
    assert found.decode_per_s == pytest.approx(2 / 0.4)
    assert found.slowest_decode_s == 0.3


@pytest.mark.parametrize("provenance", EMULATED)
def test_an_emulated_run_has_no_times(provenance: Provenance) -> None:
    report = sample_report(provenance)
    assert speeds(report) is None
    assert load_s(report) is None


def test_a_run_without_steps_has_no_speeds_but_is_no_error() -> None:
    found = speeds(failed_report())
    assert found is not None
    assert (found.first_token_s, found.prefill_per_s, found.decode_per_s) == (None, None, None)


def test_steps_that_took_no_time_are_no_speed() -> None:
    found = speeds(replace(sample_report(), steps=(Step(0.0, 0.0, 1, 1),)))
    assert found is not None and found.decode_per_s is None


def test_the_peak_is_the_highest_that_anything_saw() -> None:
    report = sample_report()
    assert peak_bytes(report) == round(1042.3 * MB)
    seen = replace(report.samples[0], resident_bytes=2_000 * MB)
    assert peak_bytes(replace(report, samples=(seen,))) == 2_000 * MB
    assert peak_bytes(failed_report()) is None


def test_ledger_rows_end_with_what_no_line_explains() -> None:
    rows = ledger_rows(sample_report())
    assert [row.part for row in rows][-1] == UNATTRIBUTED
    kinds = [row.kind for row in rows[:-1]]
    assert kinds == sorted(kinds, key=lambda kind: kind != "dirty")
    weights = rows[0]
    assert weights.part == "packed weights"
    assert weights.difference_bytes == round(1.3 * MB)
    assert weights.difference_ratio == pytest.approx(1.3 / 386.9)
