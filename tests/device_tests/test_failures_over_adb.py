"""What goes wrong with adb alone: phones that do not let us in, are not there, or are too many."""

from collections.abc import Iterator

import pytest

from pocketlm.device_tests.device.target import RefusedError
from pocketlm.device_tests.device.targets import list_targets, open_target
from pocketlm.device_tests.errors import DeviceError
from tests.device_tests.doubled_devices import DoubledDevice, adb_server, phone_over_adb
from tests.doubles.adb_server import AdbServer
from tests.doubles.auth_stub import AuthStub
from tests.doubles.user_worlds import UserMachine

pytestmark = pytest.mark.devices


@pytest.fixture(scope="module")
def server() -> Iterator[AdbServer]:
    with adb_server() as running:
        yield running


@pytest.fixture(scope="module")
def phone(server: AdbServer) -> Iterator[DoubledDevice]:
    with phone_over_adb(server, UserMachine()) as running:
        yield running


def test_a_phone_that_has_not_allowed_us(server: AdbServer) -> None:
    with AuthStub() as stub:
        server.run("connect", stub.serial)
        try:
            with pytest.raises(RefusedError, match="accept this computer") as error:
                open_target(f"adb:{stub.serial}")
            (found,) = (d for d in list_targets() if d.name == f"adb:{stub.serial}")
        finally:
            server.run("disconnect", stub.serial)
    assert error.value.reason == "unauthorized"
    assert found.state == "unauthorized"
    assert "Allow USB debugging?" in found.advice


def test_two_phones_and_none_named(phone: DoubledDevice, server: AdbServer) -> None:
    with AuthStub() as stub:
        server.run("connect", stub.serial)
        try:
            with pytest.raises(DeviceError, match="there are 2 devices; name one: ") as error:
                open_target("adb")
        finally:
            server.run("disconnect", stub.serial)
    assert f"{phone.name} (device)" in str(error.value)
    assert open_target("adb").name == phone.name


def test_a_phone_that_nobody_knows(phone: DoubledDevice) -> None:
    serial = phone.name.removeprefix("adb:")
    with pytest.raises(DeviceError, match=f"no such device; adb sees {serial}"):
        open_target("adb:R58M123")
