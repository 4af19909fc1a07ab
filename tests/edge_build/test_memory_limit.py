"""What a build reports about memory before it begins."""

import re
from pathlib import Path

import pytest

from pocketlm.edge_build import memory_limit
from pocketlm.edge_build.byte_sizes import parse_size
from pocketlm.edge_build.eager_memory import MemoryTerm
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.memory_limit import MemoryEstimate, estimate_memory
from pocketlm.edge_build.memory_prediction import StageMemory
from pocketlm.edge_build.preparation import prepare
from pocketlm.edge_build.progress import Event, Notice
from tests.staged_build import StagedBuild

GB = 1_000_000_000
LOWERING = StageMemory(
    "executorch",
    (
        MemoryTerm("Python, torch and this program", GB // 4),
        MemoryTerm("weights", 3 * GB),
        MemoryTerm("graphs of the layers", GB // 2),
        MemoryTerm("crumbs", 7),
    ),
)
GOLDEN = StageMemory("golden", (MemoryTerm("Python, torch and this program", GB // 4),))


def estimate(available_bytes: int, max_ram_bytes: int | None) -> MemoryEstimate:
    return MemoryEstimate(
        stages=(LOWERING, GOLDEN),
        resident_bytes=GB // 4,
        available_bytes=available_bytes,
        max_ram_bytes=max_ram_bytes,
        alone={"executorch": LOWERING.peak_bytes, "onnx": GB},
    )


def notices_of(memory: MemoryEstimate) -> list[str]:
    events: list[Event] = []
    memory.check(events.append)
    return [event.text for event in events if isinstance(event, Notice)]


def test_the_highest_stage_decides() -> None:
    memory = estimate(GB, None)
    assert memory.highest is LOWERING
    assert memory.peak_bytes == 3 * GB + GB // 4 + GB // 2 + 7


def test_more_than_allowed_is_refused_with_the_reason_and_what_would_do() -> None:
    with pytest.raises(BuildError) as refused:
        estimate(available_bytes=100 * GB, max_ram_bytes=2 * GB).check(lambda event: None)
    assert str(refused.value) == (
        "--max-ram 2GB (2.00 GB): stage executorch is predicted to hold 3.75 GB (3.00 GB weights, "
        "500 MB graphs of the layers, 250 MB Python, torch and this program). What would do: "
        "--backend onnx alone (1.00 GB), or --max-ram 3751MB; --dry-run shows every stage"
    )


def test_what_does_not_help_is_not_offered() -> None:
    with pytest.raises(BuildError) as refused:
        estimate(available_bytes=100 * GB, max_ram_bytes=GB - 1).check(lambda event: None)
    assert "--backend" not in str(refused.value)


def test_the_allowance_that_is_proposed_is_enough() -> None:
    memory = estimate(available_bytes=100 * GB, max_ram_bytes=1)
    with pytest.raises(BuildError) as refused:
        memory.check(lambda event: None)
    (proposed,) = re.findall(r"--max-ram (\w+);", str(refused.value))
    assert notices_of(estimate(available_bytes=0, max_ram_bytes=parse_size(proposed))) == []


def test_an_allowance_that_is_enough_is_silent_whatever_is_free() -> None:
    assert notices_of(estimate(available_bytes=0, max_ram_bytes=4 * GB)) == []


def test_more_than_is_free_is_a_warning() -> None:
    (notice,) = notices_of(estimate(available_bytes=GB, max_ram_bytes=None))
    assert notice.startswith("warning: stage executorch is predicted to hold 3.75 GB (3.00 GB ")
    assert "and 1.25 GB are free: the system may end it" in notice
    assert "--backend onnx alone (1.00 GB), or more memory;" in notice


def test_what_fits_is_no_news() -> None:
    assert notices_of(estimate(available_bytes=4 * GB, max_ram_bytes=None)) == []


def test_a_build_that_is_refused_writes_nothing(staged_build: StagedBuild) -> None:
    with pytest.raises(BuildError, match=r"--max-ram 1M \(1 MB\)"):
        staged_build.build(max_ram_bytes=1 << 20)
    assert staged_build.worked == []
    staged_build.assert_nothing_left()


def test_a_build_that_is_refused_does_not_cost_an_interrupted_one(
    staged_build: StagedBuild,
) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    with pytest.raises(BuildError, match="--max-ram"):
        staged_build.build(max_ram_bytes=1 << 20)
    staged_build.build()
    assert staged_build.worked == ["golden"]


def test_a_build_that_might_not_fit_is_tried(
    staged_build: StagedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_limit, "available_bytes", lambda: 0)
    staged_build.build()
    assert any("the system may end it" in notice for notice in staged_build.notices)
    assert staged_build.out.exists()


def test_a_single_backend_has_no_alternative(staged_build: StagedBuild, tmp_path: Path) -> None:
    spec = staged_build.spec
    both = estimate_memory(prepare(spec))
    assert set(both.alone) == {"executorch", "onnx"}
    assert all(peak <= both.peak_bytes for peak in both.alone.values())
    one = type(spec)(checkpoint=spec.checkpoint, out=tmp_path / "one", backends=("onnx",))
    assert estimate_memory(prepare(one)).alone == {}
