"""Tables of a result."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import summarize
from benchmarks.processes import SuiteError
from benchmarks.table import BEGIN, END, render, write_between_markers
from tests.benchmarks.test_figures import raw


def entry(prefill_s: float | None, step_s: float, anonymous: int, busy: bool = False) -> Any:
    raws = [raw([prefill_s] if prefill_s else [], step_s, anonymous * 1_000_000)]
    return {
        "build": {"wall_s": 95.4, "peak_bytes": 3.96e9, "steps": ["a step"]},
        "file_bytes": 733e6,
        "busy": busy,
        "figures": summarize(raws, 512).to_json(),
    }


def document(part: str, **systems: Any) -> dict[str, Any]:
    return {
        "shape": "gemma-3-1b",
        "threads": 2,
        "baseline": "llama",
        "parts": {
            part: {
                "context_length": 2048,
                "read_bytes_per_s": {"median": 23.4e9},
                "systems": systems,
            }
        },
    }


def test_row_shows_figures_and_ratios_to_the_baseline() -> None:
    table = render(document("speed", ours=entry(2.0, 0.025, 400), llama=entry(4.0, 0.05, 800)))
    ours, llama = table.splitlines()[-2:]
    assert ours == (
        "| ours | 256 (256–256) 2.00× | 40.0 (40.0–40.0) 2.00× | 400 0.50× | 400 + 0 | 0 | 1.0 | "
        "3.0 | 733 | 95 | 4.0 |"
    )
    assert "×" not in llama


def test_title_says_what_decode_is_bound_by() -> None:
    title = render(document("speed", ours=entry(2.0, 0.025, 400))).splitlines()[0]
    assert title == (
        "gemma-3-1b, speed: context 2048, 2 threads, decode after 1,024 tokens; "
        "memory is read at 23.4 GB/s"
    )


def test_busy_measurement_is_marked() -> None:
    table = render(document("speed", ours=entry(2.0, 0.025, 400, busy=True)))
    assert "| ours (busy machine) |" in table


def test_system_that_was_only_built_has_its_build() -> None:
    built = {**entry(2.0, 0.025, 400), "figures": None}
    row = render(document("speed", ours=built)).splitlines()[-1]
    assert row == "| ours | – | – | – | – | – | – | – | 733 | 95 | 4.0 |"


def test_every_row_has_as_many_cells_as_the_head() -> None:
    table = render(document("speed", ours=entry(None, 0.025, 400), llama=entry(4.0, 0.05, 800)))
    assert {line.count("|") for line in table.splitlines()[2:]} == {12}


def test_table_takes_the_place_between_the_markers(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_between_markers(path, "new")
    assert path.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_file_without_markers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("no markers\n")
    with pytest.raises(SuiteError, match="add both lines, or drop --readme"):
        write_between_markers(path, "new")
    assert path.read_text() == "no markers\n"
