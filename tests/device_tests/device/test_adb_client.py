"""Where adb is looked for, and what it lists."""

import stat
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pocketlm.device_tests.device import adb_client
from pocketlm.device_tests.device.adb_client import (
    AdbDevice,
    adb_devices,
    find_adb,
    is_network_address,
    read_devices,
)
from pocketlm.device_tests.errors import DeviceError

LISTED = """* daemon started successfully
List of devices attached
R58M123\tdevice
emulator-5554\toffline
192.168.1.5:5555\tunauthorized
0123456789\tno permissions (user in plugdev group; are your udev rules wrong?); see [http://x]
ABC\tbootloader
DEF\tsomething new

"""


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_every_state_has_an_advice() -> None:
    found = {device.serial: device for device in read_devices(LISTED)}
    assert {serial: device.state for serial, device in found.items()} == {
        "R58M123": "ready",
        "emulator-5554": "offline",
        "192.168.1.5:5555": "unauthorized",
        "0123456789": "no_permissions",
        "ABC": "unreachable",
        "DEF": "unreachable",
    }
    assert found["R58M123"] == AdbDevice("R58M123", "device", "ready", "")
    assert "Allow USB debugging?" in found["192.168.1.5:5555"].advice
    assert "udev rules wrong" in found["0123456789"].said
    assert "android-sdk-platform-tools-common" in found["0123456789"].advice
    assert "'something new'" in found["DEF"].advice


def test_variable_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    on_path = program(tmp_path / "bin" / "adb", "true")
    chosen = program(tmp_path / "my-adb", "true")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("ADB", raising=False)
    assert find_adb() == str(on_path)
    monkeypatch.setenv("ADB", str(chosen))
    assert find_adb() == str(chosen)
    monkeypatch.setenv("ADB", str(tmp_path / "nothing"))
    with pytest.raises(DeviceError, match=r"\$ADB is .*nothing, which is no program"):
        find_adb()


def test_the_bundled_one_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ADB", raising=False)
    monkeypatch.setattr(adb_client, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="apt-get install adb, elsewhere: pip install adbutils"):
        find_adb()
    bundled = program(tmp_path / "bundled", "true")
    adbutils = ModuleType("adbutils")
    adbutils.adb_path = lambda: str(bundled)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "adbutils", adbutils)
    monkeypatch.setattr(adb_client, "find_spec", lambda name: name)
    assert find_adb() == str(bundled)


def test_a_server_that_does_not_start_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "echo 'error: cannot connect to daemon' >&2; exit 1"
    monkeypatch.setenv("ADB", str(program(tmp_path / "adb", text)))
    with pytest.raises(DeviceError, match="cannot connect to daemon; try adb kill-server"):
        adb_devices()
    monkeypatch.setenv("ADB", str(program(tmp_path / "adb", "exec sleep 60")))
    monkeypatch.setattr(adb_client, "_START_S", 0.2)
    with pytest.raises(DeviceError, match="no answer; try adb kill-server"):
        adb_devices()


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        ("192.168.1.5:5555", True),
        ("phone.local:40001", True),
        ("[fe80::1]:5555", True),
        ("emulator-5554", False),
        ("R58M123", False),
    ],
)
def test_network_addresses_are_told_from_serials(serial: str, expected: bool) -> None:
    assert is_network_address(serial) == expected
