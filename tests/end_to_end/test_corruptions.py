"""`verify` sees small faults of a bundle; docs/numerics.md has the table of all.

A few run with all tests, each of them with `make corruptions`, which prints the table's rows.
"""

import sys
from pathlib import Path

import pytest

from runtime_py.bundle import open_bundle
from runtime_py.verification import verify
from tests.corruptions import CORRUPTIONS, Corruption, table_row, verdict_on

PAGE = Path(__file__).parents[2] / "docs" / "numerics.md"
SHORT = (
    "window one shorter in one layer",
    "rotary base of local layers × 1.01",
    "erf form of GELU in one layer",
    "last row of a rotary table is the one before",
    "one scale × 2 in an MLP",
    "200 rows of the embedding exchanged",
    "another sampling default",
)


def check(bundle: Path, corruption: Corruption, folder: Path) -> str:
    found = verdict_on(bundle, corruption, folder)
    assert (found is None or not found.passed) == (not corruption.missed), corruption.what
    return table_row(corruption, found)


@pytest.mark.parametrize("what", SHORT)
def test_a_small_fault_is_seen(pico_bundle: Path, tmp_path: Path, what: str) -> None:
    (corruption,) = (corruption for corruption in CORRUPTIONS if corruption.what == what)
    check(pico_bundle, corruption, tmp_path)


def test_the_page_names_every_fault_and_38_of_40_are_seen() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(CORRUPTIONS) == 40
    for corruption in CORRUPTIONS:
        row = next(line for line in page.splitlines() if line.startswith(f"| {corruption.what} |"))
        assert corruption.missed in row
        assert ("missed" in row) == bool(corruption.missed), row
    assert sum(not corruption.missed for corruption in CORRUPTIONS) >= 38


@pytest.mark.corruptions
@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.what)
def test_every_fault_is_seen_or_missed_as_the_page_says(
    pico_bundle: Path, tmp_path: Path, corruption: Corruption
) -> None:
    sys.stdout.write(f"{check(pico_bundle, corruption, tmp_path)}\n")


def test_a_bundle_without_a_fault_passes_the_strict_part(pico_bundle: Path) -> None:
    verdict = verify(open_bundle(pico_bundle), "onnx", threads=1)
    assert verdict.passed
    assert verdict.strict.state == "passed"
    # Far below the bounds of 1e-3 and 1e-4: only then is a fault above them no accident.
    assert verdict.strict.max_logit_error_std < 1e-4
    assert verdict.strict.median_std < 2e-5
    assert not verdict.coverage.not_touched[1:], "all but rows of the table"
