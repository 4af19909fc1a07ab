"""How much memory a device has for a model."""

from itertools import pairwise

import pytest

from pocketlm.device_tests.device.targets import open_target
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.fit import memory_budget
from pocketlm.device_tests.fit.memory_budget import (
    MemoryBudget,
    device_budget,
    find_budget,
    profiles,
)
from tests.device_tests.report.sample_reports import PHONE


def test_profiles_are_phones_from_small_to_large() -> None:
    found = profiles()
    assert [budget.name for budget in found] == [f"phone-{size}gb" for size in (4, 6, 8, 12, 16)]
    for small, large in pairwise(found):
        assert small.ram_bytes < large.ram_bytes
        assert small.available_bytes < large.available_bytes
    for budget in found:
        assert budget.evicts and budget.architecture == "aarch64"
        assert budget.available_bytes < budget.ram_bytes < int(budget.name[6:-2]) * 1e9


def test_a_profile_is_called_by_its_name() -> None:
    assert find_budget("phone-8gb") == profiles()[2]


def test_a_device_has_what_it_has_now() -> None:
    assert device_budget("adb:1", PHONE) == MemoryBudget(
        "adb:1", PHONE.ram_bytes, PHONE.available_bytes, PHONE.free_swap_bytes, True, "aarch64"
    )


def test_this_machine_ends_no_other_apps() -> None:
    budget = find_budget("host")
    facts = open_target("host").facts()
    assert (budget.name, budget.evicts) == ("host", False)
    assert (budget.ram_bytes, budget.architecture) == (facts.ram_bytes, facts.architecture)
    assert 0 < budget.available_bytes <= budget.ram_bytes


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(DeviceError) as caught:
        find_budget("phone-6g")
    assert str(caught.value) == (
        "--device phone-6g: there is no such profile (did you mean phone-6gb?); "
        "profiles: phone-4gb, phone-6gb, phone-8gb, phone-12gb, phone-16gb; "
        "devices: adb:SERIAL, ssh:HOST, host"
    )
    with pytest.raises(DeviceError, match="no such profile; profiles: phone-4gb"):
        find_budget("mainframe")


def test_the_connection_is_closed_whatever_the_device_says(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Silent:
        name = "host"

        def facts(self) -> None:
            raise DeviceError("no answer")

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr("pocketlm.device_tests.device.targets.open_target", lambda name: Silent())
    with pytest.raises(DeviceError, match="no answer"):
        memory_budget.find_budget("host")
    assert closed == [True]
