"""What is removed from a device at the next start, and what is not."""

import os
import time
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pocketlm.device_tests.device.target import Finished, Target
from pocketlm.device_tests.device.targets.host import open_host
from pocketlm.device_tests.job.state import ask_state, remove_stale


class Answering:
    """A device that answers everything with one text."""

    name = "double"

    def __init__(self, output: str) -> None:
        self.output = output

    def run(self, command: str, *, timeout_s: float = 30) -> Finished:
        return Finished(0, self.output)


@pytest.mark.parametrize("ended", ["n0nce x 0", "n0nce ² 0", "n0nce " + "9" * 5000 + " 0", "n0nce"])
def test_a_damaged_word_on_a_jobs_end_is_no_end(ended: str) -> None:
    device: Any = Answering(f"\n@@ ended\n{ended}\n@@ end\n{'9' * 5000}\n@@ output\n")
    state = ask_state(device, PurePosixPath("/jobs/1"), 7, timeout_s=1)
    assert state.ended is None
    assert state.output_end == 7


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return open_host(tmp_path / "device folder")


def make(target: Target, name: str, text: str = "x", age_s: float = 0) -> Path:
    path = Path(target.folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - age_s
    os.utime(path, (then, then))
    os.utime(path.parent, (then, then))
    return path


def test_nothing_is_nothing(target: Target) -> None:
    assert remove_stale(target) == ()


def test_old_parts_are_removed_and_whole_files_are_not(target: Target) -> None:
    old = make(target, "bundles/a b/model.pte.part", age_s=700)
    young = make(target, "bundles/model.pte.part", age_s=100)
    whole = make(target, "bundles/a b/model.pte", age_s=10**6)
    remove_stale(target)
    assert [path.exists() for path in (old, young, whole)] == [False, True, True]
    remove_stale(target, part_age_s=0)
    assert not young.exists()


def test_jobs_that_never_began_are_removed_when_old(target: Target) -> None:
    old = make(target, "jobs/1/job.sh", age_s=700)
    young = make(target, "jobs/2/job.sh", age_s=100)
    remove_stale(target)
    assert not old.parent.exists()
    assert young.exists()


def test_jobs_that_ended_are_kept_for_a_day(target: Target) -> None:
    for nonce, age_s in (("1", 3600), ("2", 90_000)):
        make(target, f"jobs/{nonce}/job.pid", "999999999 1 boot")
        make(target, f"jobs/{nonce}/job.done", f"{nonce} 0 0", age_s)
    assert remove_stale(target) == ()
    assert [p.name for p in (Path(target.folder) / "jobs").iterdir()] == ["1"]


def test_live_jobs_are_named(target: Target) -> None:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    job = make(target, "jobs/77/job.pid", f"{os.getpid()} {fields[19]} boot\n")
    assert remove_stale(target) == ("77",)
    assert job.exists()
