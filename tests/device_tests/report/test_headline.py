"""The figures that a reader looks for first."""

from dataclasses import replace

from pocketlm.device_tests.quantities import NOTHING
from pocketlm.device_tests.report.headline import headline
from tests.device_tests.report.sample_reports import (
    MB,
    failed_report,
    killed_report,
    sample_report,
)


def test_sizes_stand_before_times() -> None:
    found = [(f.name, f.value, f.unit) for f in headline(sample_report())]
    assert found == [
        ("peak", "1.04 GB", ""),
        ("dirty", "451 MB", ""),
        ("clean", "132 MB", ""),
        ("load", "2.86 s", ""),
        ("first token", "4.62 s", ""),
        ("prefill", "111", "tokens/s"),
        ("decode", "18.2", "tokens/s"),
    ]


def test_an_emulated_run_says_that_its_times_are_not_shown() -> None:
    found = headline(sample_report("qemu-user"))
    assert [f.name for f in found] == ["peak", "dirty", "clean", "times"]
    assert found[-1].note == "times are emulated, not shown"


def test_swap_is_told_where_there_was_some() -> None:
    report = sample_report()
    last = replace(report.phases[-1], swap_bytes=30 * MB)
    swapped = headline(replace(report, phases=(*report.phases[:-1], last)))
    assert [(f.value, f.note) for f in swapped if f.name == "in swap"] == [
        ("30.0 MB", "at the end of decoded")
    ]


def test_a_run_that_was_killed_says_when_its_sizes_were_seen() -> None:
    notes = {f.name: f.note for f in headline(killed_report())}
    assert notes["dirty"] == notes["clean"] == "at the end of started"


def test_what_was_not_measured_is_no_number() -> None:
    assert {f.value for f in headline(failed_report())} == {NOTHING}
