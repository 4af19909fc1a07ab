"""Two folders change places."""

import errno
from pathlib import Path

import pytest

from pocketlm.edge_build import exchange as exchange_module
from pocketlm.edge_build.exchange import exchange


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "was").write_text(name)
    return tmp_path / "first", tmp_path / "second"


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in two steps"])
def test_each_has_what_the_other_had(
    at_once: bool, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(exchange_module, "_exchanged_at_once", lambda *paths: errno.ENOSYS)
    first, second = folders
    exchange(first, second)
    assert ((first / "was").read_text(), (second / "was").read_text()) == ("second", "first")
    assert len(list(first.parent.iterdir())) == 2


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in two steps"])
def test_what_cannot_move_leaves_the_other_in_place(
    at_once: bool, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(exchange_module, "_exchanged_at_once", lambda *paths: errno.EINVAL)
    first, second = folders
    with pytest.raises(FileNotFoundError):
        exchange(first / "absent", second)
    assert (second / "was").read_text() == "second"
