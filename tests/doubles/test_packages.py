"""Where packages come from; nothing is downloaded here."""

from pathlib import Path

import pytest

from pocketlm.device_tests.errors import DeviceError
from tests.doubles import packages


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this machine's apt would name as its sources: one line each."""
    lines: list[str] = []
    monkeypatch.delenv("POCKETLM_DEBIAN_MIRROR", raising=False)
    monkeypatch.setattr(packages, "run_tool", lambda command, **rest: "\n".join(lines))
    return lines


def test_the_machines_own_mirror_is_used(sources: list[str]) -> None:
    sources += ["http://security.test/debian-security/ main", "http://mirror.test/debian/ main"]
    assert packages._mirror() == "http://mirror.test/debian/"


def test_a_mirror_can_be_asked_for(sources: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETLM_DEBIAN_MIRROR", "http://other.test/debian")
    assert packages._mirror() == "http://other.test/debian"


def test_without_a_mirror_the_error_says_how_to_name_one(sources: list[str]) -> None:
    sources.append("http://archive.test/ubuntu/ main")
    with pytest.raises(DeviceError, match="set POCKETLM_DEBIAN_MIRROR"):
        packages._mirror()


def test_apt_keeps_everything_in_the_folder_and_its_network_settings(
    sources: list[str], tmp_path: Path
) -> None:
    sources += ['Acquire::http::Proxy "http://proxy.test/";', 'Dir::State "/var/lib/apt";']
    written = packages._configuration(tmp_path)
    assert "proxy.test" in written
    assert "/var/" not in written
    for line in written.splitlines():
        if line.startswith("Dir::") and '"-"' not in line:
            assert str(tmp_path) in line


def test_without_the_archives_key_nothing_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_KEYRING", tmp_path / "missing.gpg")
    with pytest.raises(DeviceError, match="apt-get install debian-archive-keyring"):
        packages.download(tmp_path)
    assert list(tmp_path.iterdir()) == []
