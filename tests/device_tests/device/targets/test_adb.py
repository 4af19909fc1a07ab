"""Android targets with a made-up adb: which device, and what its words mean."""

import stat
from pathlib import Path

import pytest

from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.target import Listed, LostDeviceError, RefusedError
from pocketlm.device_tests.device.targets import load, open_target
from pocketlm.device_tests.errors import DeviceError

# Answers as adb does, from files beside it; what it was asked for is written down.
ADB = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/asked"
case "$*" in
  start-server) ;;
  devices) printf 'List of devices attached\\n'; cat "$here/devices" ;;
  disconnect*) ;;
  connect*) [ ! -f "$here/after" ] || mv "$here/after" "$here/devices" ;;
  *get-state) grep -q 'device$' "$here/devices" && echo device ;;
  *push*) cat "$here/said"; exit 1 ;;
  *shell*) cat "$here/said" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "adb"
    program.write_text(ADB)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("ADB", str(program))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    (tmp_path / "devices").write_text("ONE\tdevice\n")
    return tmp_path


def test_adb_alone_is_the_only_device(adb: Path) -> None:
    assert open_target("adb").name == "adb:ONE"
    assert str(open_target("adb").folder) == "/data/local/tmp/pocketlm"


def test_adb_alone_is_none_of_several(adb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (adb / "devices").write_text("ONE\tdevice\nTWO\toffline\n")
    with pytest.raises(DeviceError, match=r"name one: adb:ONE \(device\), adb:TWO \(offline\)"):
        open_target("adb")
    assert open_target("adb:ONE").name == "adb:ONE"
    # adb's own choice.
    monkeypatch.setenv("ANDROID_SERIAL", "ONE")
    assert open_target("adb").name == "adb:ONE"


def test_adb_alone_without_devices(adb: Path) -> None:
    (adb / "devices").write_text("")
    with pytest.raises(DeviceError, match="adb sees no device; plug one in, and turn on USB debug"):
        open_target("adb")


def test_unknown_serials_are_answered_with_the_known_ones(adb: Path) -> None:
    with pytest.raises(DeviceError, match=r"adb:TWO: no such device; adb sees ONE \(device\)"):
        open_target("adb:TWO")


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ("unauthorized", RefusedError, "unlock it and accept this computer"),
        ("no permissions (udev); see [x]", RefusedError, "join the group plugdev"),
        ("offline", LostDeviceError, "unplug it and plug it in again"),
        ("recovery", LostDeviceError, "let it start Android"),
    ],
)
def test_devices_that_are_not_ready_say_why(
    state: str, error: type[DeviceError], words: str, adb: Path
) -> None:
    (adb / "devices").write_text(f"ONE\t{state}\n")
    with pytest.raises(error, match=words):
        open_target("adb:ONE")


@pytest.mark.parametrize("before", ["", "10.0.0.5:5555\toffline\n"])
def test_network_devices_are_connected_anew(before: str, adb: Path) -> None:
    (adb / "devices").write_text(before)
    (adb / "after").write_text("10.0.0.5:5555\tdevice\n")
    assert open_target("adb:10.0.0.5:5555").name == "adb:10.0.0.5:5555"


def test_network_devices_that_are_off_are_said(adb: Path) -> None:
    (adb / "devices").write_text("10.0.0.5:5555\toffline\n")
    with pytest.raises(LostDeviceError, match="cannot connect to it; check that it is on"):
        open_target("adb:10.0.0.5:5555")
    # Bounded: asked for once.
    assert (adb / "asked").read_text().count("\nconnect ") == 1


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("error: device unauthorized.", RefusedError, "accept this computer"),
        ("error: device still authorizing", RefusedError, "accept this computer"),
        ("error: insufficient permissions for device", RefusedError, "may not use its USB port"),
        ("error: device offline", LostDeviceError, "device offline.*check its cable"),
        ("error: device 'ONE' not found", LostDeviceError, "not found.*check its cable"),
        ("error: closed", LostDeviceError, "closed"),
        ("error: cannot connect to daemon", DeviceError, "adb's own server is at fault"),
    ],
)
def test_words_have_meanings(said: str, error: type[DeviceError], words: str, adb: Path) -> None:
    (adb / "said").write_text(said)
    with pytest.raises(error, match=words) as caught:
        open_target("adb:ONE").run("true")
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("adb: error: failed to copy 'a' to 'b': remote write failed: No space left", "no_space"),
        ("adb: error: failed to copy 'a': remote couldn't create file: Permission", "permission"),
    ],
)
def test_reasons_of_a_failed_copy_are_on_stdout(said: str, reason: str, adb: Path) -> None:
    (adb / "said").write_text(f"{said} {'on device' if reason == 'no_space' else 'denied'}\n")
    target = open_target("adb:ONE")
    assert isinstance(target, ShellTarget)
    with pytest.raises(RefusedError) as error:
        target.push(adb / "devices", target.folder / "x", timeout_s=20)
    assert error.value.reason == reason


def test_list_says_what_is_to_be_done(adb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (adb / "devices").write_text("ONE\tdevice\nTWO\tunauthorized\n")
    one, two = load("adb").discover()
    assert one == Listed("adb:ONE", "ready", "", None)
    assert (two.state, "unlock it" in two.advice) == ("unauthorized", True)
    monkeypatch.setenv("ADB", "/no/such/adb")
    (missing,) = load("adb").discover()
    assert (missing.name, missing.state) == ("adb", "unreachable")
    assert "which is no program" in missing.advice
