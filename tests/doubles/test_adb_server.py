"""The adb server of our own: private, and gone at the end."""

from pathlib import Path

import psutil
import pytest

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.adb_server import AdbServer
from tests.doubles.tools import advice, missing_tools

_TOOLS = ("adb", "setpriv")
pytestmark = pytest.mark.skipif(bool(missing_tools(_TOOLS)), reason=advice(missing_tools(_TOOLS)))


def test_it_is_this_machines_alone_and_ends_with_the_context() -> None:
    with AdbServer() as server:
        process = psutil.Process(server.pid)
        home = Path(server.environment["HOME"])
        port = int(server.environment["ANDROID_ADB_SERVER_PORT"])
        listening = [c.laddr for c in process.net_connections("inet") if c.status == "LISTEN"]
        assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", port)]
        assert (home / ".android" / "adbkey").exists()
    assert not process.is_running()
    assert not home.exists()


def test_it_knows_no_device_of_the_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_SERIAL", "mine")
    monkeypatch.setenv("ADB_VENDOR_KEYS", "/my/keys")
    with AdbServer() as server:
        assert {"ANDROID_SERIAL", "ADB_VENDOR_KEYS"}.isdisjoint(server.environment)
        assert server.run("devices").stdout.split() == ["List", "of", "devices", "attached"]


def test_a_device_that_does_not_answer_is_an_error() -> None:
    with AdbServer() as server, pytest.raises(DeviceError, match=r"127\.0\.0\.1:1: adb says"):
        server.connect("127.0.0.1:1", timeout_s=0.1)
