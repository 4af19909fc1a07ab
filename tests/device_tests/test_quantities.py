"""Numbers as people read them."""

import pytest

from pocketlm.device_tests.quantities import (
    byte_unit,
    duration_text,
    percent_text,
    rate_text,
    share_text,
    size_text,
)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_951, "100 kB"),
        (999_499, "999 kB"),
        (999_600, "1.0 MB"),
        (87_300_000, "87.3 MB"),
        (999_400_000, "999 MB"),
        (999_600_000, "1.00 GB"),
        (1_042_300_000, "1.04 GB"),
        (-12_000_000, "−12.0 MB"),
    ],
)
def test_a_size_has_about_three_digits(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(0.0, "0.0 ms"), (0.0421, "42.1 ms"), (0.4, "400 ms"), (0.9996, "1.00 s"), (12.34, "12.3 s"),
     (1234.5, "1,234 s"), (-0.5, "−500 ms")],
)  # fmt: skip
def test_a_duration_has_about_three_digits(duration_s: float, text: str) -> None:
    assert duration_text(duration_s) == text


def test_a_rate_has_about_three_digits() -> None:
    assert [rate_text(r) for r in (0.42, 18.26, 1204.2)] == ["0.42", "18.3", "1,204"]


def test_a_percentage_of_nothing_has_no_sign() -> None:
    assert [percent_text(r) for r in (0.031, -0.12, 0.0, -0.0001, 0.0004)] == [
        "+3.1 %", "−12 %", "0.0 %", "0.0 %", "0.0 %",
    ]  # fmt: skip


def test_a_share_that_is_small_is_not_nothing() -> None:
    assert [share_text(r) for r in (0.4, 0.031, 0.0002, 0.0)] == [
        "40 %",
        "3.1 %",
        "0.02 %",
        "0.0 %",
    ]


@pytest.mark.parametrize(
    ("largest", "unit", "text"),
    [
        (1_042_300_000, "MB", "1,042.3"),
        (20_300_000, "MB", "20.30"),
        (36_400, "kB", "36.4"),
        (0, "kB", "0.0"),
    ],
)
def test_a_table_has_the_unit_of_its_largest_size(largest: int, unit: str, text: str) -> None:
    found = byte_unit((1, -largest))
    assert (found.name, found.number(largest)) == (unit, text)


def test_a_difference_that_rounds_to_nothing_has_no_sign() -> None:
    unit = byte_unit((500_000_000,))
    assert [unit.signed_number(n) for n in (3_240_000, -400_000, -10, 10)] == [
        "+3.2", "−0.4", "0.0", "0.0",
    ]  # fmt: skip
