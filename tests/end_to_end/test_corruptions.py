"""`verify` sees small faults of a bundle; docs/numerics.md has the tables of all.

A few run with all tests, each of them with `make corruptions`, which prints the tables' rows.
"""

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("executorch")

from pocketlm.runtime_py.bundle import open_bundle
from pocketlm.runtime_py.verification import verify
from tests.corruptions import executorch_faults, onnx_faults
from tests.corruptions.bundle_copy import Corruption, result_on, table_row
from tests.corruptions.onnx_faults import OnnxCopy
from tests.corruptions.program_copy import ProgramCopy

PAGE = Path(__file__).parents[2] / "docs" / "numerics.md"
COPIES = {"onnx": OnnxCopy, "executorch": ProgramCopy}
CORRUPTIONS = {"onnx": onnx_faults.CORRUPTIONS, "executorch": executorch_faults.CORRUPTIONS}
SHORT = {
    "onnx": (
        "window one shorter in one layer",
        "rotary base of local layers × 1.01",
        "erf form of GELU in one layer",
        "last row of a rotary table is the one before",
        "one scale × 2 in an MLP",
        "200 rows of the embedding exchanged",
        "another sampling default",
    ),
    "executorch": (
        "window one shorter in one layer",
        "erf form of GELU in one layer",
        "another stop token in the program",
    ),
}
# What both tables must have.
OF_BOTH = (
    "window one shorter in one layer",
    "window one longer in one layer",
    "window one shorter in every local layer",
    "window one longer in every local layer",
    "rotary base of global layers × 1.01",
    "rotary base of local layers × 1.01",
    "erf form of GELU in one layer",
    "one scale × 2 in an MLP",
)

ALL = [(backend, fault) for backend, faults in CORRUPTIONS.items() for fault in faults]


def check(bundle: Path, backend: str, corruption: Corruption[Any], folder: Path) -> str:
    found = result_on(COPIES[backend](bundle, folder / "copy"), corruption)
    assert (found is None or not found.passed) == (not corruption.missed), corruption.what
    return table_row(corruption, found)


@pytest.mark.parametrize(
    ("backend", "what"), [(backend, what) for backend in SHORT for what in SHORT[backend]]
)
def test_a_small_fault_is_seen(pico_bundle: Path, tmp_path: Path, backend: str, what: str) -> None:
    (corruption,) = (fault for fault in CORRUPTIONS[backend] if fault.what == what)
    check(pico_bundle, backend, corruption, tmp_path)


@pytest.mark.parametrize("backend", CORRUPTIONS)
def test_the_page_names_every_fault_and_all_but_two_of_40_are_seen(backend: str) -> None:
    tables = PAGE.read_text(encoding="utf-8").partition("\n**ONNX Runtime**")[2]
    onnx, _, executorch = tables.partition("\n**ExecuTorch**")
    rows = {"onnx": onnx, "executorch": executorch.partition("\n## ")[0]}[backend].splitlines()
    faults = CORRUPTIONS[backend]
    assert sum(row.startswith("| ") for row in rows) == len(faults) + 1, "and the table's head"
    for fault in faults:
        row = next(line for line in rows if line.startswith(f"| {fault.what} |"))
        assert fault.missed in row
        assert ("missed" in row) == bool(fault.missed), row
    assert len(faults) >= 40
    assert sum(bool(fault.missed) for fault in faults) <= 2
    seen = {fault.what for fault in faults if not fault.missed}
    assert seen >= set(OF_BOTH)


@pytest.mark.corruptions
@pytest.mark.parametrize(
    ("backend", "corruption"), ALL, ids=lambda value: getattr(value, "what", value)
)
def test_every_fault_is_seen_or_missed_as_the_page_says(
    pico_bundle: Path, tmp_path: Path, backend: str, corruption: Corruption[Any]
) -> None:
    sys.stdout.write(f"{check(pico_bundle, backend, corruption, tmp_path)}\n")


def test_a_program_that_is_written_again_without_a_fault_is_the_same(
    pico_bundle: Path, tmp_path: Path
) -> None:
    copy = ProgramCopy(pico_bundle, tmp_path / "copy")
    before = copy.artifact.read_bytes()
    copy.finish()
    assert copy.artifact.read_bytes() == before


@pytest.mark.parametrize("backend", CORRUPTIONS)
def test_a_bundle_without_a_fault_passes_the_strict_part(pico_bundle: Path, backend: str) -> None:
    result = verify(open_bundle(pico_bundle), backend, threads=1)
    assert result.passed
    assert result.strict.state == "passed"
    # Far below the bounds of 1e-3 and 1e-4: only then is a fault above them no accident.
    assert result.strict.max_logit_error_std < 1e-4
    assert result.strict.median_std < 2e-5
    assert not result.coverage.not_touched[1:], "all but rows of the table"
