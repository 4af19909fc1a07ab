"""Wheels of other processors: fetched once, held against their digests, unpacked in part."""

import hashlib
import io
import platform
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pocketlm.device_tests import runners
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.runners import packages
from pocketlm.device_tests.runners.onnx import onnxruntime_library
from pocketlm.device_tests.runners.packages import Wheel, installed, unpacked

WHEELS = [wheel for name in runners.names() for wheel in runners.load(name).wheels]

CONTENT = {"runtime/lib/libruntime.so": b"code", "runtime/large.py": b"not needed"}


def wheel_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in CONTENT.items():
            # A fixed date: equal content is equal bytes.
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


WHEEL = Wheel(
    distribution="runtime",
    version="1.2.3",
    architecture="aarch64",
    platform="manylinux_2_28_aarch64",
    python="3.11",
    sha256=hashlib.sha256(wheel_bytes()).hexdigest(),
    keep=("runtime/lib/",),
)


class Pip:
    """Stands for pip: brings the wheel, or fails with what was said."""

    def __init__(self, said: str = "") -> None:
        self.said = said
        self.commands: list[Sequence[str]] = []

    def __call__(self, command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.said:
            return subprocess.CompletedProcess(command, 1, "", self.said)
        folder = Path(command[command.index("--dest") + 1])
        (folder / "runtime-1.2.3-py3-none-any.whl").write_bytes(wheel_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pip(monkeypatch: pytest.MonkeyPatch, said: str = "") -> Pip:
    found = Pip(said)
    monkeypatch.setattr("subprocess.run", found)
    return found


def test_a_wheel_is_fetched_once_and_kept_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told = pip(monkeypatch), list[str]()
    folder = unpacked(WHEEL, told.append)
    assert unpacked(WHEEL, told.append) == folder
    assert told == ["fetching runtime 1.2.3 for aarch64"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [(path.name, path.read_bytes()) for path in files] == [("libruntime.so", b"code")]
    (command,) = asked.commands
    assert command[-1] == "runtime==1.2.3"
    assert {"--no-deps", "--only-binary=:all:", "manylinux_2_28_aarch64"} <= set(command)


def test_another_file_than_the_recorded_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    pip(monkeypatch)
    with pytest.raises(DeviceError, match=f"sha256 is {WHEEL.sha256}, recorded is 00; nothing"):
        unpacked(replace(WHEEL, sha256="00"), lambda step: None)
    assert [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size] == []


def test_without_a_connection_the_error_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pip(monkeypatch, said="WARNING: retrying\nERROR: No matching distribution")
    with pytest.raises(DeviceError, match=r"fetch runtime==1\.2\.3 .*: ERROR: No matching"):
        unpacked(WHEEL, lambda step: None)


def test_a_processor_without_a_wheel_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(DeviceError, match="onnxruntime for riscv64: no wheel is recorded; there"):
        packages.runtime("onnx", "riscv64", lambda step: None)


@pytest.mark.parametrize("backend", runners.names())
def test_this_machine_uses_what_is_installed(backend: str) -> None:
    distribution = runners.load(backend).distribution
    pytest.importorskip(distribution)
    found = packages.runtime(backend, platform.machine(), lambda step: None)
    assert found == installed(backend)
    assert found.package.name == distribution
    assert all(path.is_file() for path in runners.load(backend).libraries(found.package))


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.distribution)
def test_recorded_wheels_are_of_releases_that_this_project_allows(wheel: Wheel) -> None:
    # A device then computes with a release that bundles may be built and verified with here.
    allowed = {(r := Requirement(text)).name: r.specifier for text in requires("pocketlm") or ()}
    assert allowed[wheel.distribution].contains(wheel.version)
    assert len(wheel.sha256) == 64


def test_a_package_without_its_shared_library_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no shared library; pip install onnxruntime again"):
        onnxruntime_library(tmp_path)
