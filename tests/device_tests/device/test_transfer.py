"""Files to a device and back over connections that break."""

import os
from pathlib import Path, PurePosixPath

import pytest

from pocketlm.device_tests.device import transfer
from pocketlm.device_tests.device.external_tool import ToolRun
from pocketlm.device_tests.device.shell import NO_SPACE
from pocketlm.device_tests.device.target import LostDeviceError, RefusedError
from pocketlm.device_tests.device.targets.host import HostLink
from pocketlm.device_tests.errors import DeviceError
from tests.device_tests.broken_link import BROKEN, BrokenLink, Times, broken_target

CONTENT = os.urandom(3500)  # four pieces of 1000 bytes
FOREVER = range(1, 10**6)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "device"


@pytest.fixture
def path(device: Path) -> PurePosixPath:
    return PurePosixPath(device / "bundles" / "a b's" / "model.bin")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RECONNECT_S", 0.3)


def files_of(device: Path) -> list[str]:
    return sorted(path.name for path in device.rglob("*") if path.is_file())


def test_file_arrives_in_pieces(source: Path, device: Path, path: PurePosixPath) -> None:
    shown: list[tuple[int, int]] = []
    link = BrokenLink()
    broken_target(device, link).send(source, path, lambda done, total: shown.append((done, total)))
    assert Path(path).read_bytes() == CONTENT
    assert files_of(device) == ["model.bin"]
    assert link.count("push") == 4
    assert [done for done, _ in shown] == [0, 1000, 2000, 3000, 3500, 3500]
    assert {total for _, total in shown} == {3500}


def test_small_and_empty_files_arrive(tmp_path: Path, device: Path) -> None:
    target = broken_target(device, BrokenLink())
    for name, content in (("small", b"abc"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        target.send(tmp_path / name, target.folder / name)
        assert (device / name).read_bytes() == content
    assert files_of(device) == ["empty", "small"]


def test_programs_stay_programs(tmp_path: Path, device: Path) -> None:
    target = broken_target(device, BrokenLink())
    for name, mode in (("program", 0o755), ("text", 0o644)):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / name).chmod(mode)
        target.send(tmp_path / name, target.folder / name)
        assert (device / name).stat().st_mode & 0o777 == mode


def test_equal_file_is_left_alone(source: Path, device: Path, path: PurePosixPath) -> None:
    link = BrokenLink()
    target = broken_target(device, link)
    target.send(source, path)
    link.calls.clear()
    target.send(source, path)
    assert link.count("push") == 0
    Path(path).write_bytes(CONTENT[::-1])
    target.send(source, path)
    assert Path(path).read_bytes() == CONTENT


def test_broken_connection_goes_on_from_the_last_good_piece(
    source: Path, device: Path, path: PurePosixPath
) -> None:
    link = BrokenLink(Times("push", "model.bin", {3}))
    broken_target(device, link).send(source, path)
    assert Path(path).read_bytes() == CONTENT
    # Two pieces, one that failed, and two more; not four more.
    assert link.count("push") == 5
    assert files_of(device) == ["model.bin"]


class LateLink(BrokenLink):
    """Its connection breaks in the first check, which the device ends after the next push."""

    def __init__(self) -> None:
        super().__init__(Times("call", "sha256sum <", {2}))

    def push(self, source: Path, path: PurePosixPath, timeout_s: float) -> ToolRun:
        done = super().push(source, path, timeout_s)
        if self.count("push") == 2:
            checks = [what for kind, what in self.calls if kind == "call" and "exit 99" in what]
            HostLink().call(checks[0], timeout_s)
        return done


@pytest.mark.parametrize(("piece_bytes", "pushes"), [(1000, 5), (4000, 2)])
def test_what_a_broken_connection_left_running_takes_nothing(
    piece_bytes: int, pushes: int, source: Path, device: Path, path: PurePosixPath
) -> None:
    link = LateLink()
    broken_target(device, link, piece_bytes).send(source, path)
    assert Path(path).read_bytes() == CONTENT
    assert link.count("push") == pushes
    assert files_of(device) == ["model.bin"]


class LateEndLink(BrokenLink):
    """Its connection breaks in the last check, which the device ends as the next try begins its."""

    def __init__(self) -> None:
        super().__init__(Times("call", "chmod", {1}))

    def call(self, text: str, timeout_s: float) -> ToolRun:
        if "chmod" in text and self.count("call", "chmod") == 1:
            HostLink().call(next(what for _, what in self.calls if "chmod" in what), timeout_s)
        return super().call(text, timeout_s)


def test_file_that_a_broken_connection_put_in_place_is_no_damage(
    source: Path, device: Path, path: PurePosixPath
) -> None:
    broken_target(device, LateEndLink()).send(source, path)
    assert Path(path).read_bytes() == CONTENT
    assert files_of(device) == ["model.bin"]


def test_another_call_goes_on_where_the_first_gave_up(
    source: Path, device: Path, path: PurePosixPath
) -> None:
    link = BrokenLink(Times("push", "model.bin", range(3, 5)))
    target = broken_target(device, link)
    with pytest.raises(LostDeviceError, match="couldn't read from device"):
        target.send(source, path)
    assert files_of(device) == ["model.bin.part"]
    link.calls.clear()
    target.send(source, path)
    assert link.count("push") == 2
    assert Path(path).read_bytes() == CONTENT


def test_piece_that_was_half_appended_is_gone_on_from(
    source: Path, device: Path, path: PurePosixPath
) -> None:
    Path(path).parent.mkdir(parents=True)
    Path(f"{path}.part").write_bytes(CONTENT[:1300])
    link = BrokenLink()
    broken_target(device, link).send(source, path)
    assert Path(path).read_bytes() == CONTENT
    assert link.count("push") == 3


@pytest.mark.parametrize("left", [b"another file", CONTENT + b"more"])
def test_part_of_another_file_is_started_over(
    left: bytes, source: Path, device: Path, path: PurePosixPath
) -> None:
    Path(path).parent.mkdir(parents=True)
    Path(f"{path}.part").write_bytes(left)
    link = BrokenLink()
    broken_target(device, link).send(source, path)
    assert Path(path).read_bytes() == CONTENT
    assert files_of(device) == ["model.bin"]


def test_tool_that_lies_about_success_is_found_out(
    source: Path, device: Path, path: PurePosixPath
) -> None:
    done_nothing = ToolRun(0, "1 file pushed", "")
    link = BrokenLink(Times("push", "model.bin", {1}, done_nothing))
    broken_target(device, link).send(source, path)
    assert Path(path).read_bytes() == CONTENT
    link.fault = Times("push", "model.bin", FOREVER, done_nothing)
    source.write_bytes(CONTENT[::-1])
    with pytest.raises(DeviceError, match="arrived damaged"):
        broken_target(device, link).send(source, path)
    # What is there is still the whole file of before.
    assert Path(path).read_bytes() == CONTENT
    assert files_of(device) == ["model.bin"]


def test_silent_device_is_lost(source: Path, device: Path, path: PurePosixPath) -> None:
    link = BrokenLink(Times("push", "model.bin", FOREVER, None))
    with pytest.raises(
        LostDeviceError, match=r"broken: writing .*: no answer within 30 s; mend it"
    ):
        broken_target(device, link).send(source, path)


def test_full_disk_is_said_before_anything_is_written(
    source: Path, device: Path, path: PurePosixPath
) -> None:
    link = BrokenLink()
    with pytest.raises(
        RefusedError, match=r"needs [\d,]+ MB, of which [\d,]+ MB must stay fr"
    ) as e:
        broken_target(device, link).send(source, path, reserve_bytes=2**60)
    assert e.value.reason == "no_space"
    assert link.count("push") == 0
    assert files_of(device) == []


def test_disk_that_fills_up_leaves_nothing(source: Path, device: Path, path: PurePosixPath) -> None:
    full = ToolRun(1, "", f"adb: error: failed to copy: remote write failed: {NO_SPACE}")
    link = BrokenLink(Times("push", "model.bin", {3}, full))
    with pytest.raises(RefusedError, match="free some space on the device") as error:
        broken_target(device, link).send(source, path)
    assert error.value.reason == "no_space"
    assert files_of(device) == []


def test_place_that_cannot_be_written_is_refused(source: Path, tmp_path: Path) -> None:
    denied = ToolRun(1, "", "remote couldn't create file: Permission denied")
    link = BrokenLink(Times("push", "model.bin", FOREVER, denied))
    with pytest.raises(RefusedError) as error:
        broken_target(tmp_path, link).send(source, PurePosixPath(tmp_path / "x" / "model.bin"))
    assert error.value.reason == "permission"
    assert link.count("push") == 1


def test_missing_source_is_the_users_mistake(tmp_path: Path, path: PurePosixPath) -> None:
    with pytest.raises(DeviceError, match=r"sending .*nothing: No such file or directory"):
        broken_target(tmp_path, BrokenLink()).send(tmp_path / "nothing", path)


def test_file_comes_back(tmp_path: Path, device: Path) -> None:
    device.mkdir()
    (device / "logits").write_bytes(CONTENT)
    link = BrokenLink(Times("pull", "logits", {1}))
    broken_target(device, link).fetch(PurePosixPath(device / "logits"), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert link.count("pull") == 2


def test_file_that_does_not_come_back_leaves_what_was_there(tmp_path: Path, device: Path) -> None:
    device.mkdir()
    (device / "logits").write_bytes(CONTENT)
    out = tmp_path / "out"
    out.write_bytes(b"before")
    link = BrokenLink(Times("pull", "logits", FOREVER, BROKEN))
    with pytest.raises(LostDeviceError):
        broken_target(device, link).fetch(PurePosixPath(device / "logits"), out)
    assert out.read_bytes() == b"before"
    assert not out.with_name("out.part").exists()


def test_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"reading /no/such: .*No such file"):
        broken_target(tmp_path, BrokenLink()).fetch(PurePosixPath("/no/such"), tmp_path / "out")
