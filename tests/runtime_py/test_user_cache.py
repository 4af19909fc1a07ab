"""The folder for what is made once: where it is, and that it is whole or missing."""

from pathlib import Path

import pytest

from pocketlm.runtime_py.user_cache import cache_folder, kept


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"POCKETLM_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"POCKETLM_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/pocketlm"),
        ({"HOME": "/c"}, "/c/.cache/pocketlm"),
    ],
)
def test_the_environment_says_where_it_is(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POCKETLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    made = []

    def make(out: Path) -> None:
        made.append(out)
        (out / "file").write_text("whole")

    for _ in range(2):
        folder = kept(tmp_path / "cache" / "thing", make)
        assert (folder / "file").read_text() == "whole"
    assert len(made) == 1


def test_what_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        (out / "file").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        kept(tmp_path / "thing", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]


def test_what_an_earlier_process_left_unfinished_is_started_anew(tmp_path: Path) -> None:
    (tmp_path / ".thing.unfinished").mkdir()
    (tmp_path / ".thing.unfinished" / "old").touch()
    folder = kept(tmp_path / "thing", lambda out: (out / "new").touch())
    assert [path.name for path in folder.iterdir()] == ["new"]
