"""A folder that appears whole or not at all."""

import errno
from pathlib import Path

import pytest

from pocketlm.models.errors import ModelError
from pocketlm.models.new_folder import new_folder


def test_nothing_is_visible_until_the_end(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"
    with new_folder(out) as folder:
        (folder / "file").write_text("x")
        assert not out.exists()
    assert (out / "file").read_text() == "x"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_failure_takes_the_parents_that_were_made_with_it(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(ValueError, match="mine"), new_folder(tmp_path / "kept" / "new" / "out"):
        raise ValueError("mine")
    assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="exists already"), new_folder(tmp_path / "out"):
        pass


def test_a_parent_that_is_a_file_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ModelError, match="cannot be written"),
        new_folder(tmp_path / "file" / "out"),
    ):
        pass


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the disk is full"), new_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ModelError), new_folder(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]
