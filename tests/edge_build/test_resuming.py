"""A build that was interrupted continues, a build that was asked for in error leaves nothing.

Stages are doubles that write a few bytes, but for the last tests: those kill real processes.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pocketlm.edge_build.build import build
from pocketlm.edge_build.errors import BuildError, InterruptedBuildError
from pocketlm.edge_build.progress import Event, StageAdvanced, StageFinished
from pocketlm.edge_build.spec import BuildSpec
from tests.staged_build import STAGES, StagedBuild

ROOT = Path(__file__).parents[2]


def _raise(error: BaseException) -> None:
    raise error


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_build_leaves_the_bundle_and_nothing_else(staged_build: StagedBuild) -> None:
    staged_build.build()
    assert staged_build.worked == STAGES
    assert [path.name for path in staged_build.out.parent.iterdir()] == ["tiny"]
    manifest = json.loads((staged_build.out / "manifest.json").read_text())
    listed = {file["path"]: file["size_bytes"] for file in manifest["files"]}
    found = {path: len(data) for path, data in files_of(staged_build.out).items()}
    assert listed == {path: size for path, size in found.items() if path != "manifest.json"}


INTERRUPTIONS: Mapping[str, Callable[[], BaseException]] = {
    "Ctrl-C": KeyboardInterrupt,
    "a full disk": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "a full quota": lambda: OSError(errno.EDQUOT, "Disk quota exceeded"),
    "no memory": MemoryError,
    "no memory for a tensor": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    "a mistake of ours": lambda: ValueError("shapes do not fit"),
}


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("error", INTERRUPTIONS.values(), ids=INTERRUPTIONS.keys())
def test_an_interrupted_build_says_how_to_continue_and_continues(
    staged_build: StagedBuild, stage: str, error: Callable[[], BaseException]
) -> None:
    before = STAGES[: STAGES.index(stage)]
    seen = staged_build.build_until(stage, error())
    (note,) = seen.__notes__
    assert note == (
        f"finished: {', '.join(sorted(before))}; run the same command again to continue, or "
        f"remove {staged_build.kept} to start over"
    )
    assert not staged_build.out.exists()
    staged_build.build()
    assert staged_build.worked == STAGES[STAGES.index(stage) :]
    assert staged_build.notices == [
        f"continuing an interrupted build: {', '.join(before)} done before; the last run ended "
        f"during {stage}"
    ]
    assert [path.name for path in staged_build.out.parent.iterdir()] == ["tiny"]


def test_a_continued_bundle_is_the_same_byte_by_byte(
    staged_build: StagedBuild, tmp_path: Path
) -> None:
    staged_build.build()
    whole = files_of(staged_build.out)
    shutil.rmtree(staged_build.out)
    staged_build.build_until("golden", KeyboardInterrupt())
    staged_build.build()
    assert files_of(staged_build.out) == whole


@pytest.mark.parametrize("error", INTERRUPTIONS.values(), ids=INTERRUPTIONS.keys())
def test_with_nothing_finished_nothing_is_left(
    staged_build: StagedBuild, error: Callable[[], BaseException]
) -> None:
    seen = staged_build.build_until("quantize", error())
    assert getattr(seen, "__notes__", []) == ["nothing was kept"]
    staged_build.assert_nothing_left()


def test_a_mistake_in_what_was_asked_leaves_nothing(staged_build: StagedBuild) -> None:
    seen = staged_build.build_until("quantize", BuildError("norm: the checkpoint holds NaN"))
    assert str(seen) == "norm: the checkpoint holds NaN" and not hasattr(seen, "__notes__")
    staged_build.assert_nothing_left()


@pytest.mark.parametrize("stage", STAGES[1:])
def test_an_error_of_a_later_stage_costs_no_finished_one(
    staged_build: StagedBuild, stage: str
) -> None:
    seen = staged_build.build_until(stage, BuildError("executorch: cannot import its build tools"))
    (note,) = seen.__notes__
    assert "run the same command again to continue" in note
    staged_build.build()
    assert staged_build.worked == STAGES[STAGES.index(stage) :]


def test_a_mistake_made_while_a_build_is_interrupted_does_not_cost_it(
    staged_build: StagedBuild,
) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    with pytest.raises(BuildError, match="--chunk 65"):
        staged_build.build(chunk=65)
    staged_build.build()
    assert staged_build.worked == ["golden"]


@pytest.mark.parametrize("error", INTERRUPTIONS.values(), ids=INTERRUPTIONS.keys())
def test_interrupted_after_the_last_stage_nothing_is_worked_twice(
    staged_build: StagedBuild, error: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "pocketlm.edge_build.build.write_manifest", lambda *arguments: _raise(error())
        )
        with pytest.raises(BaseException):  # noqa: B017
            staged_build.build()
    staged_build.build()
    assert staged_build.worked == []
    assert "golden/onnx.json" in files_of(staged_build.out)


def test_fresh_starts_over(staged_build: StagedBuild) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    staged_build.build(fresh=True)
    assert staged_build.worked == STAGES
    assert staged_build.notices == []


def test_a_damaged_artifact_is_made_again(staged_build: StagedBuild) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    (staged_build.kept / "onnx" / "onnx" / "model").write_bytes(b"onyx" * 100)
    staged_build.build()
    assert staged_build.worked == ["onnx", "golden"]
    assert (staged_build.out / "onnx" / "model").read_bytes() == b"onnx" * 100


def test_too_small_a_disk_keeps_what_is_finished(
    staged_build: StagedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    full = shutil._ntuple_diskusage(total=10, used=10, free=0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: full)
        with pytest.raises(InterruptedBuildError, match="0 MB are free; make room") as caught:
            staged_build.build()
    assert "run the same command again" in caught.value.__notes__[0]
    staged_build.build()
    assert staged_build.worked == ["golden"]


# The command line, but that one step of a build is a signal to the own process.
SIGNALLED = """
import os
import signal
import pocketlm.edge_build.build
from pocketlm import main

# A command in the background of a shell inherits that Ctrl-C is ignored, and Python keeps it so.
signal.signal(signal.SIGINT, signal.default_int_handler)

def signalled(*arguments):
    os.kill(os.getpid(), int(os.environ["SIGNAL"]))

setattr(pocketlm.edge_build.build, os.environ["STEP"], signalled)
main()
"""


def signalled_command(
    sent: signal.Signals, step: str, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run pocketlm in a process of its own, which gets a signal at a step."""
    return subprocess.run(
        [sys.executable, "-c", SIGNALLED, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SIGNAL": str(sent.value), "STEP": step},
    )


def test_a_killed_build_continues_and_makes_the_very_same_bundle(
    tmp_path: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    checkpoint, out = tiny_checkpoint("qwen3"), tmp_path / "out"
    options = ("--backend", "onnx", "--golden-tokens", 2, "--chunk", 8)
    arguments = ("build", checkpoint, "--out", out, *options)
    killed = signalled_command(signal.SIGKILL, "record_golden", *arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()

    spec = BuildSpec(checkpoint=checkpoint, out=out, backends=("onnx",), chunk=8, golden_tokens=2)
    reused: list[str] = []

    def tell(event: Event) -> None:
        if isinstance(event, StageFinished) and event.report.reused:
            reused.append(event.report.name)

    build(spec, tell)
    assert reused == ["quantize", "onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    build(replace(spec, out=tmp_path / "at-once"))
    assert files_of(out) == files_of(tmp_path / "at-once")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_ends_the_command_says_how_to_continue(
    sent: signal.Signals, tmp_path: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    out = tmp_path / "out"
    arguments = ("build", tiny_checkpoint("qwen3"), "--out", out, "--backend", "onnx")
    ended = signalled_command(sent, "_lower", *arguments)
    assert ended.returncode == 130
    message = ended.stderr.splitlines()[-1]
    assert message == (
        "error: interrupted; finished: quantize; run the same command again to continue, or "
        f"remove {tmp_path / '.out.build'} to start over"
    )
    assert "Traceback" not in ended.stderr


def test_progress_of_a_stage_reaches_whoever_listens(
    tmp_path: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    class StopError(Exception):
        pass

    seen: list[StageAdvanced] = []

    def tell(event: Event) -> None:
        if isinstance(event, StageAdvanced):
            seen.append(event)
        if isinstance(event, StageFinished) and event.report.name == "quantize":
            raise StopError

    checkpoint = tiny_checkpoint("qwen3")
    with pytest.raises(StopError):
        build(BuildSpec(checkpoint=checkpoint, out=tmp_path / "out", chunk=8), tell)
    assert {event.unit for event in seen} == {"bytes"}
    assert seen[0].done == 0 and seen[-1].done == seen[-1].total
    assert seen[-1].total > (checkpoint / "model.safetensors").stat().st_size * 0.9
