"""Two folders change places."""

import errno
from pathlib import Path

import pytest

from pocketlm.edge_build import exchange as exchange_module
from pocketlm.edge_build.exchange import exchange


# What the kernel answers to an exchange at once; None where it exchanges.
@pytest.fixture(params=[None, errno.ENOSYS, errno.EINVAL], ids=["at once", "ENOSYS", "EINVAL"])
def folders(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    if request.param is not None:
        monkeypatch.setattr(exchange_module, "_exchanged_at_once", lambda *paths: request.param)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "was").write_text(name)
    return tmp_path / "first", tmp_path / "second"


def test_each_has_what_the_other_had(folders: tuple[Path, Path]) -> None:
    first, second = folders
    exchange(first, second)
    assert ((first / "was").read_text(), (second / "was").read_text()) == ("second", "first")
    assert len(list(first.parent.iterdir())) == 2


def test_what_cannot_move_leaves_the_other_in_place(folders: tuple[Path, Path]) -> None:
    first, second = folders
    with pytest.raises(FileNotFoundError):
        exchange(first / "absent", second)
    assert (second / "was").read_text() == "second"
