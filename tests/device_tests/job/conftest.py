"""A device on this machine whose connection can be broken, and scripts for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pocketlm.device_tests.device import transfer
from pocketlm.device_tests.device.shell_target import ShellTarget
from tests.device_tests.broken_link import BrokenLink, broken_target


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RECONNECT_S", 0.3)


@pytest.fixture
def link() -> BrokenLink:
    return BrokenLink()


@pytest.fixture
def target(tmp_path: Path, link: BrokenLink) -> ShellTarget:
    return broken_target(tmp_path / "device folder", link, 10**6)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], dict[str, Path]]:
    """Return a function: text of a shell script → the files of a job that runs it."""

    def write(text: str) -> dict[str, Path]:
        (tmp_path / "run.sh").write_text(text)
        return {"run.sh": tmp_path / "run.sh"}

    return write
