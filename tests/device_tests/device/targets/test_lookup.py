"""Targets by name, and the list of all that can be found."""

import stat
from pathlib import Path

import pytest

from pocketlm.device_tests.device import targets
from pocketlm.device_tests.device.target import Listed, LostDeviceError, RefusedError, Target
from pocketlm.device_tests.device.targets import list_targets, load, open_target
from pocketlm.device_tests.errors import DeviceError


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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("POCKETLM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "pocketlm").mkdir()
    return tmp_path / "pocketlm"


def test_jobs_of_the_host_lie_in_the_users_cache_for_the_user_alone(cache: Path) -> None:
    target = open_target("host")
    assert Path(target.folder) == cache / "host"
    assert not (cache / "host").exists()
    target.run(f"mkdir -p {target.folder}/jobs")
    assert stat.S_IMODE((cache / "host").stat().st_mode) == 0o700
    open_target("host")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(cache: Path, mode: int) -> None:
    (cache / "host").mkdir()
    (cache / "host").chmod(mode)
    with pytest.raises(RefusedError, match=f"written by other users .mode {mode:o}.*remove it, or"):
        open_target("host")


def test_a_link_or_a_file_in_place_of_the_folder_is_refused(cache: Path, tmp_path: Path) -> None:
    (cache / "host").symlink_to(tmp_path)
    with pytest.raises(RefusedError, match="host is a link, and programs in it would be run"):
        open_target("host")
    (cache / "host").unlink()
    (cache / "host").write_text("")
    with pytest.raises(RefusedError, match="host is no folder"):
        open_target("host")


def test_a_folder_of_another_user_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "host").mkdir(mode=0o700)
    monkeypatch.setattr("os.getuid", lambda: (cache / "host").stat().st_uid + 1)
    with pytest.raises(RefusedError, match="host belongs to user") as error:
        open_target("host")
    assert error.value.reason == "permission"
