"""The stub, with the real adb."""

import time

from tests.doubles.adb_server import AdbServer
from tests.doubles.auth_stub import AuthStub


def test_adb_calls_it_unauthorized(adb: AdbServer) -> None:
    with AuthStub() as stub:
        adb.run("connect", stub.serial)
        deadline = time.monotonic() + 10
        while adb.state(stub.serial) != "unauthorized" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert adb.state(stub.serial) == "unauthorized"
        done = adb.run("-s", stub.serial, "shell", "true")
        assert done.returncode == 1
        assert "device unauthorized" in done.stdout
        adb.run("disconnect", stub.serial)


def test_two_are_two_devices(adb: AdbServer) -> None:
    with AuthStub() as one, AuthStub() as other:
        for stub in (one, other):
            adb.run("connect", stub.serial)
        assert adb.state(one.serial) != "absent" != adb.state(other.serial)
        assert "more than one device" in adb.run("shell", "true").stdout
        for stub in (one, other):
            adb.run("disconnect", stub.serial)
