"""Targets by name, and the list of all that can be found."""

import pytest

from device_tests import targets
from device_tests.errors import DeviceError
from device_tests.target import Listed, LostDeviceError, RefusedError, Target
from device_tests.targets import list_targets, load, open_target


@pytest.mark.parametrize("kind", targets.KINDS)
def test_every_file_offers_a_kind(kind: str) -> None:
    assert callable(load(kind).open)
    assert callable(load(kind).discover)


def test_unknown_kinds_are_answered_with_the_known_ones() -> None:
    with pytest.raises(DeviceError, match="did you mean ssh"):
        open_target("shs:pi")
    with pytest.raises(DeviceError, match=r"--on phone: unknown; known: adb, host, ssh, as in adb"):
        open_target("phone")


def test_host_has_no_address() -> None:
    with pytest.raises(DeviceError, match="host is this machine; ssh:pi is another"):
        open_target("host:pi")


class FakeKind:
    """Finds what it is told, and opens nothing."""

    def __init__(self, found: tuple[Listed, ...], error: DeviceError) -> None:
        self.found, self.error = found, error

    def open(self, address: str) -> Target:
        raise self.error

    def discover(self) -> tuple[Listed, ...]:
        return self.found


def test_list_has_the_host_and_its_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "KINDS", ("host", "ssh"))
    (host,) = list_targets()
    assert (host.name, host.state, host.advice) == ("host", "ready", "")
    assert host.facts is not None
    assert host.facts.provenance == "host"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (LostDeviceError("gone"), "offline"),
        (RefusedError("accept it", "unauthorized"), "unauthorized"),
        (RefusedError("udev", "permission"), "no_permissions"),
        (DeviceError("no such host"), "unreachable"),
    ],
)
def test_what_is_named_but_not_ready_says_why(
    error: DeviceError, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "KINDS", ("ssh",))
    monkeypatch.setattr(targets, "load", lambda kind: FakeKind((), error))
    assert list_targets(("ssh:pi", "ssh:pi")) == (Listed("ssh:pi", state, str(error), None),)


def test_what_is_found_but_not_ready_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Listed("adb:1", "unauthorized", "unlock it", None)
    kind = FakeKind((found,), DeviceError("opened"))
    monkeypatch.setattr(targets, "KINDS", ("adb",))
    monkeypatch.setattr(targets, "load", lambda name: kind)
    # Named as well, it is listed once.
    assert list_targets(("adb:1",)) == (found,)
