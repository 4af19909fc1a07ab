"""The folder that a build writes to, its lock, and what others put in their places.

Stages are doubles that write a few bytes.
"""

import os
import shutil
from pathlib import Path

import pytest

from pocketlm.edge_build.build import build
from pocketlm.edge_build.errors import BuildError, InterruptedBuildError
from tests.workshop import STAGES, Workshop


def test_what_a_kill_left_beside_a_whole_bundle_goes_with_the_next_command(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        # As if killed between the last rename and the removal.
        killed.setattr("pocketlm.edge_build.staging.shutil.rmtree", lambda *a, **k: None)
        workshop.build()
    assert workshop.out.is_dir() and workshop.kept.is_dir()
    with pytest.raises(BuildError, match="exists already"):
        workshop.build()
    assert workshop.out.is_dir() and not workshop.kept.exists()


def test_finished_stages_beside_a_foreign_folder_are_kept(workshop: Workshop) -> None:
    workshop.build_until("golden", KeyboardInterrupt())
    workshop.out.mkdir()
    with pytest.raises(BuildError, match="exists already"):
        workshop.build()
    workshop.out.rmdir()
    workshop.build()
    assert workshop.worked == ["golden"]


@pytest.mark.parametrize(
    "out", ["nowhere/..", "nowhere/../bundle", "nowhere/../../bundle", ".", ".."]
)
def test_an_out_that_leads_nowhere_is_refused_before_the_work(
    workshop: Workshop, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    with pytest.raises(BuildError, match=r"--out .*(leads through a folder|exists already)"):
        workshop.build(out=Path(out))
    assert workshop.worked == []
    assert sorted(path.name for path in tmp_path.rglob("*") if "check" not in str(path)) == [
        "below", "here"
    ]  # fmt: skip


def test_a_second_build_to_the_same_place_is_refused_and_harms_nothing(workshop: Workshop) -> None:
    def build_again() -> None:
        with pytest.raises(BuildError, match=f"--out .*: process {os.getpid()} is building there"):
            build(workshop.spec)

    workshop.during = {"onnx": build_again}
    workshop.build()
    assert workshop.worked == STAGES
    assert workshop.out.exists()


def test_a_lock_that_a_killed_process_left_does_not_matter(workshop: Workshop) -> None:
    workshop.kept.mkdir(parents=True)
    (workshop.kept / "lock").write_text("4194305\n")
    workshop.build()
    assert workshop.out.exists() and not workshop.kept.exists()


def test_a_lock_whose_build_just_ended_is_not_taken(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketlm.edge_build.staging._is_at", lambda file, path: False)
    with pytest.raises(BuildError, match="another build there ended this moment; start again"):
        workshop.build()


def test_a_folder_of_somebody_else_is_kept_as_it_is(workshop: Workshop) -> None:
    workshop.kept.mkdir(parents=True)
    (workshop.kept / "letter").write_text("precious")
    with pytest.raises(BuildError, match=r"\.tiny\.build, which exists and holds something else"):
        workshop.build(fresh=True)
    assert (workshop.kept / "letter").read_text() == "precious"


def test_a_link_in_place_of_the_folder_is_not_followed(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    workshop.kept.parent.mkdir()
    workshop.kept.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BuildError, match="holds something else"):
        workshop.build()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_bundle_that_appeared_meanwhile_is_kept(workshop: Workshop) -> None:
    def appear() -> None:
        workshop.out.mkdir()
        (workshop.out / "theirs").touch()

    workshop.during = {"golden": appear}
    with pytest.raises(InterruptedBuildError, match="tiny: appeared while it was being built"):
        workshop.build()
    assert [path.name for path in workshop.out.iterdir()] == ["theirs"]
    shutil.rmtree(workshop.out)
    workshop.during = {}
    workshop.build()
    assert workshop.worked == []


def test_a_place_that_cannot_be_written_is_said_in_words(
    workshop: Workshop, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=r"file/deep/out: cannot be written .*give another folder"):
        workshop.build(out=tmp_path / "file" / "deep" / "out")
