"""Artifacts are built once, and again when what they were made from has changed."""

import sys
from pathlib import Path

import pytest

from benchmarks.artifacts import BuildRecord, Reuse, build, readable
from benchmarks.processes import ROOT, Guard, SuiteError
from benchmarks.systems.system import System

GUARD = Guard(force=True)
# Adds a line a build, so that builds can be counted.
APPEND = (
    "import sys; open(sys.argv[1], 'a').write('built\\n'); open(sys.argv[2], 'w').write('four')"
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def system(tmp_path: Path) -> System:
    source = tmp_path / "source.py"
    source.write_text("first")
    artifact = tmp_path / "work" / "artifact"
    return System(
        name="some",
        title="some system",
        contains="",
        python=Path(sys.executable),
        worker="none",
        artifact=artifact,
        build=((sys.executable, "-c", APPEND, str(tmp_path / "log"), str(artifact)),),
        sources=(source,),
    )


def builds(system: System) -> int:
    return len(Path(system.build[0][3]).read_text().splitlines())


def test_build_is_measured(system: System, checkpoint: Path) -> None:
    record = build(system, checkpoint, GUARD, Reuse())
    assert record.file_bytes == len("four")
    assert record.wall_s == record.steps[0].wall_s
    assert record.peak_bytes > 1_000_000


def test_unchanged_inputs_are_not_built_again(system: System, checkpoint: Path) -> None:
    first = build(system, checkpoint, GUARD, Reuse())
    assert build(system, checkpoint, GUARD, Reuse()) == first
    assert builds(system) == 1


def test_changed_source_is_built_again_unless_stale_is_allowed(
    system: System, checkpoint: Path
) -> None:
    first = build(system, checkpoint, GUARD, Reuse())
    system.sources[0].write_text("second")
    assert build(system, checkpoint, GUARD, Reuse(stale=True)) == first
    assert builds(system) == 1
    build(system, checkpoint, GUARD, Reuse())
    assert builds(system) == 2


def test_changed_checkpoint_is_built_again(system: System, checkpoint: Path) -> None:
    build(system, checkpoint, GUARD, Reuse())
    (checkpoint / "config.json").write_text("{ }")
    build(system, checkpoint, GUARD, Reuse())
    assert builds(system) == 2


def test_rebuild_builds_what_is_there(system: System, checkpoint: Path) -> None:
    build(system, checkpoint, GUARD, Reuse())
    build(system, checkpoint, GUARD, Reuse(always=True))
    assert builds(system) == 2


def test_checkpoint_that_is_its_own_artifact_stays(checkpoint: Path) -> None:
    plain = System("plain", "", "", Path(sys.executable), "none", checkpoint, build=())
    record = build(plain, checkpoint, GUARD, Reuse(always=True))
    assert record == BuildRecord(record.inputs, (), 2)
    assert (checkpoint / "config.json").exists()


def test_failed_build_shows_the_end_of_what_it_said(tmp_path: Path, checkpoint: Path) -> None:
    script = "raise SystemExit('no memory left')"
    failing = System(
        "failing", "", "", Path(sys.executable), "none", tmp_path / "artifact",
        build=((sys.executable, "-c", script),),
    )  # fmt: skip
    with pytest.raises(SuiteError, match=r"exit status 1\nno memory left"):
        build(failing, checkpoint, GUARD, Reuse())


def test_recorded_commands_have_no_paths_of_this_machine() -> None:
    shown = readable([sys.executable, "-m", "pocketlm", str(ROOT / "build" / "bench")])
    assert shown.split()[1:] == ["-m", "pocketlm", "build/bench"]
    assert "/" not in shown.split()[0]
