"""Where the room for a model comes from."""

from itertools import pairwise

import pytest

from device_tests.device.targets import open_target
from device_tests.errors import DeviceError
from device_tests.fit import memory_budget
from device_tests.fit.fitting import Room
from device_tests.fit.memory_budget import profiles, room_called, room_of
from tests.device_tests.report.sample_reports import PHONE


def test_profiles_are_phones_from_small_to_large() -> None:
    found = profiles()
    assert [room.name for room in found] == [f"phone-{size}gb" for size in (4, 6, 8, 12, 16)]
    for small, large in pairwise(found):
        assert small.ram_bytes < large.ram_bytes
        assert small.available_bytes < large.available_bytes
    for room in found:
        assert room.evicts and room.architecture == "aarch64"
        assert room.available_bytes < room.ram_bytes < int(room.name[6:-2]) * 1e9


def test_a_profile_is_called_by_its_name() -> None:
    assert room_called("phone-8gb") == profiles()[2]


def test_a_device_has_what_it_has_now() -> None:
    assert room_of("adb:1", PHONE) == Room(
        "adb:1", PHONE.ram_bytes, PHONE.available_bytes, PHONE.free_swap_bytes, True, "aarch64"
    )


def test_this_machine_ends_no_other_apps() -> None:
    room = room_called("host")
    facts = open_target("host").facts()
    assert (room.name, room.evicts) == ("host", False)
    assert (room.ram_bytes, room.architecture) == (facts.ram_bytes, facts.architecture)
    assert 0 < room.available_bytes <= room.ram_bytes


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(DeviceError) as caught:
        room_called("phone-6g")
    assert str(caught.value) == (
        "--device phone-6g: there is no such profile (did you mean phone-6gb?); "
        "profiles: phone-4gb, phone-6gb, phone-8gb, phone-12gb, phone-16gb; "
        "devices: adb:SERIAL, ssh:HOST, host"
    )
    with pytest.raises(DeviceError, match="no such profile; profiles: phone-4gb"):
        room_called("mainframe")


def test_the_connection_is_closed_whatever_the_device_says(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Silent:
        name = "host"

        def facts(self) -> None:
            raise DeviceError("no answer")

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr("device_tests.device.targets.open_target", lambda name: Silent())
    with pytest.raises(DeviceError, match="no answer"):
        memory_budget.room_called("host")
    assert closed == [True]
