"""The sampler's lines as values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.device_tests.memory.samples import read_samples
from pocketlm.device_tests.memory.values import Sample

LINE: dict[str, Any] = {
    "clock_s": 101.5,
    "resident_bytes": 8192,
    "peak_bytes": 9000,
    "anonymous_bytes": 4096,
    "file_bytes": 4096,
    "swap_bytes": 0,
    "machine_available_bytes": 1_000_000,
    "pressure_some_us": 250_000,
    "warmest_celsius": 41.5,
    "a_field_of_a_later_sampler": [1, 2],
}


def test_a_line_is_read() -> None:
    assert read_samples(json.dumps(LINE), 100.0) == (
        Sample(
            clock_s=1.5,
            resident_bytes=8192,
            anonymous_bytes=4096,
            file_bytes=4096,
            swap_bytes=0,
            available_bytes=1_000_000,
            pressure_some_s=0.25,
            celsius=41.5,
        ),
    )


def test_what_a_device_does_not_say_is_not_known() -> None:
    assert read_samples('{"clock_s": 100, "resident_bytes": 5}', 100.0) == (Sample(0.0, 5),)


def test_a_last_line_that_was_cut_is_passed_over() -> None:
    text = json.dumps(LINE) + "\n"
    whole = read_samples(2 * text, 100.0)
    assert len(whole) == 2
    for length in range(len(text), 2 * len(text) - 2):
        assert read_samples((2 * text)[:length], 100.0) == whole[:1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"clock_s": "101.5"},
        {"clock_s": float("nan")},
        {"clock_s": -1.0},
        {"resident_bytes": None},
        {"resident_bytes": "8192"},
        {"resident_bytes": -8192},
        {"resident_bytes": 2**63},
        {"pressure_some_us": 10**400},
        {"pressure_some_us": "much"},
        {"machine_available_bytes": [1]},
        {"warmest_celsius": float("inf")},
    ],
    ids=str,
)
def test_a_line_that_cannot_be_is_passed_over(wrong: dict[str, Any]) -> None:
    assert len(read_samples(json.dumps(LINE) + "\n" + json.dumps(LINE | wrong), 100.0)) == 1


@pytest.mark.parametrize("line", ["", "Killed", "[]", "7", "{", "[" * 100_000, '{"clock_s": 1.0}'])
def test_foreign_lines_are_passed_over(line: str) -> None:
    assert len(read_samples(f"{line}\n{json.dumps(LINE)}\n{line}", 100.0)) == 1


@given(field=st.sampled_from(sorted(LINE)), value=st.integers() | st.floats() | st.text())
def test_nothing_that_a_line_may_hold_raises(field: str, value: Any) -> None:
    for sample in read_samples(json.dumps(LINE | {field: value}), 100.0):
        assert sample.resident_bytes >= 0
        json.dumps(sample.__dict__, allow_nan=False)
