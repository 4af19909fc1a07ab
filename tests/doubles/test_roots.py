"""The trees of the doubles, where they are built."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles.prepare import Prepared, prepared
from tests.doubles.roots import _copy_relocated


def test_nothing_moves_in_a_program_that_is_relocated(tmp_path: Path) -> None:
    before = b"\x7fELF\0/lib/ld-linux-aarch64.so.1\0Q\0/usr/lib/aarch64-linux-gnu/\0y"
    (tmp_path / "before").write_bytes(before)
    _copy_relocated(tmp_path / "before", tmp_path / "after")
    after = (tmp_path / "after").read_bytes()
    assert len(after) == len(before)
    assert b"\0/apex/com.android.adbd/ld\0" in after
    assert b"aarch64-linux-gnu" not in after
    assert after.index(b"Q") == before.index(b"Q")
    assert after[-1:] == b"y"


@pytest.fixture
def built(skip_without: Callable[..., None]) -> Prepared:
    skip_without()
    return prepared()


def test_a_phone_has_no_libraries_where_a_loader_looks(built: Prepared) -> None:
    assert not {"lib", "lib64", "usr"} & _names(built.phone)
    assert not list((built.phone / "etc").glob("ld.so*"))


def test_a_phone_has_the_commands_that_androids_shell_has(built: Prepared) -> None:
    commands = _names(built.phone / "system" / "bin")
    assert {
        "sh",
        "toybox",
        "dumpsys",
        "getprop",
        "cat",
        "df",
        "dd",
        "sha256sum",
        "setsid",
        "nohup",
    } <= commands
    assert "python3" not in commands


def test_a_board_has_its_shell_and_server(built: Prepared) -> None:
    for name in ("bin/sh", "bin/bash", "usr/sbin/sshd", "usr/bin/sha256sum", "usr/bin/awk"):
        assert (built.board / name).exists(), name


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
