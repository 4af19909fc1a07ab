"""The folder that a build writes to, its lock, and what others put in their places.

Stages are doubles that write a few bytes.
"""

import os
import shutil
from pathlib import Path

import pytest

from pocketlm.edge_build.build import build
from pocketlm.edge_build.errors import BuildError, InterruptedBuildError
from tests.staged_build import STAGES, StagedBuild


def test_what_a_kill_left_beside_a_whole_bundle_goes_with_the_next_command(
    staged_build: StagedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        # As if killed between the last rename and the removal.
        killed.setattr("pocketlm.edge_build.staging.shutil.rmtree", lambda *a, **k: None)
        staged_build.build()
    assert staged_build.out.is_dir() and staged_build.kept.is_dir()
    with pytest.raises(BuildError, match="exists already"):
        staged_build.build()
    assert staged_build.out.is_dir() and not staged_build.kept.exists()


def test_finished_stages_beside_a_foreign_folder_are_kept(staged_build: StagedBuild) -> None:
    staged_build.build_until("golden", KeyboardInterrupt())
    staged_build.out.mkdir()
    with pytest.raises(BuildError, match="exists already"):
        staged_build.build()
    staged_build.out.rmdir()
    staged_build.build()
    assert staged_build.worked == ["golden"]


@pytest.mark.parametrize(
    "out", ["nowhere/..", "nowhere/../bundle", "nowhere/../../bundle", ".", ".."]
)
def test_an_out_that_leads_nowhere_is_refused_before_the_work(
    staged_build: StagedBuild, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    with pytest.raises(BuildError, match=r"--out .*(leads through a folder|exists already)"):
        staged_build.build(out=Path(out))
    assert staged_build.worked == []
    assert sorted(path.name for path in tmp_path.rglob("*") if "check" not in str(path)) == [
        "below", "here"
    ]  # fmt: skip


def test_a_second_build_to_the_same_place_is_refused_and_harms_nothing(
    staged_build: StagedBuild,
) -> None:
    def build_again() -> None:
        with pytest.raises(BuildError, match=f"--out .*: process {os.getpid()} is building there"):
            build(staged_build.spec)

    staged_build.during = {"onnx": build_again}
    staged_build.build()
    assert staged_build.worked == STAGES
    assert staged_build.out.exists()


def test_a_lock_that_a_killed_process_left_does_not_matter(staged_build: StagedBuild) -> None:
    staged_build.kept.mkdir(parents=True)
    (staged_build.kept / "lock").write_text("4194305\n")
    staged_build.build()
    assert staged_build.out.exists() and not staged_build.kept.exists()


def test_a_lock_whose_build_just_ended_is_not_taken(
    staged_build: StagedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketlm.edge_build.staging._is_at", lambda file, path: False)
    with pytest.raises(BuildError, match="another build there ended this moment; start again"):
        staged_build.build()


def test_a_folder_of_somebody_else_is_kept_as_it_is(staged_build: StagedBuild) -> None:
    staged_build.kept.mkdir(parents=True)
    (staged_build.kept / "letter").write_text("precious")
    with pytest.raises(BuildError, match=r"\.tiny\.build, which exists and holds something else"):
        staged_build.build(fresh=True)
    assert (staged_build.kept / "letter").read_text() == "precious"


def test_a_link_in_place_of_the_folder_is_not_followed(
    staged_build: StagedBuild, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    staged_build.kept.parent.mkdir()
    staged_build.kept.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BuildError, match="holds something else"):
        staged_build.build()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_bundle_that_appeared_meanwhile_is_kept(staged_build: StagedBuild) -> None:
    def appear() -> None:
        staged_build.out.mkdir()
        (staged_build.out / "theirs").touch()

    staged_build.during = {"golden": appear}
    with pytest.raises(InterruptedBuildError, match="tiny: appeared while it was being built"):
        staged_build.build()
    assert [path.name for path in staged_build.out.iterdir()] == ["theirs"]
    shutil.rmtree(staged_build.out)
    staged_build.during = {}
    staged_build.build()
    assert staged_build.worked == []


def test_a_place_that_cannot_be_written_is_said_in_words(
    staged_build: StagedBuild, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=r"file/deep/out: cannot be written .*give another folder"):
        staged_build.build(out=tmp_path / "file" / "deep" / "out")
