"""What goes to a device: compiled once, complete, and able to start where nothing else is."""

import hashlib
import platform
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.runners import onnx
from pocketlm.device_tests.runners import payload as payloads
from pocketlm.device_tests.runners.compilation import SOURCES, Toolchain
from pocketlm.device_tests.runners.packages import Runtime
from pocketlm.device_tests.runners.payload import Payload, payload
from tests.device_tests.runners.runs import run

HERE = platform.machine()
needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="needs gcc and g++")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("POCKETLM_CACHE", str(folder))
        yield folder


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Replace sources and compilers by small ones; return the runners that were made."""
    made: list[Path] = []

    def compile_runner(out: Path, tools: Toolchain, runtime: Runtime, run_path: str) -> Path:
        assert run_path == "$ORIGIN"
        out.write_text("runner")
        made.append(out)
        return out

    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(payloads, "SOURCES", tmp_path / "native")
    shutil.copytree(SOURCES, tmp_path / "native")
    monkeypatch.setattr(onnx, "RUNNER", replace(onnx.RUNNER, compile=compile_runner))
    monkeypatch.setattr(payloads, "compile_sampler", lambda out, tools: out.write_text("sampler"))
    return made


def folder_of(made: Payload, folder: Path) -> Path:
    """Lay the files out as on a device."""
    for file in made.files:
        shutil.copyfile(file.path, folder / file.name)
        (folder / file.name).chmod(0o755 if file.executable else 0o644)
    return folder


@needs_gcc
def test_a_runner_is_compiled_once_for_the_same_sources(compiled: list[Path]) -> None:
    told: list[str] = []
    first = payload("onnx", HERE, own_libc=False, tell=told.append)
    assert payload("onnx", HERE, own_libc=False, tell=told.append) == first
    assert told == [f"compiling the onnx runner for {HERE}"]
    assert len(compiled) == 1


@needs_gcc
@pytest.mark.parametrize(
    ("part", "again"), [("native/runner.c", 2), ("onnx/engine.c", 2), ("executorch/engine.cpp", 1)]
)
def test_a_changed_source_is_compiled_again(
    compiled: list[Path], tmp_path: Path, part: str, again: int
) -> None:
    payload("onnx", HERE, own_libc=False)
    with (tmp_path / "native" / part).open("a") as source:
        source.write("\n")
    payload("onnx", HERE, own_libc=False)
    assert len(compiled) == again


@needs_gcc
def test_what_does_not_compile_leaves_nothing(
    compiled: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise DeviceError("gcc failed")

    with monkeypatch.context() as patch, pytest.raises(DeviceError, match="gcc failed"):
        patch.setattr(onnx, "RUNNER", replace(onnx.RUNNER, compile=fail))
        payload("onnx", HERE, own_libc=False)
    assert payload("onnx", HERE, own_libc=False).files[0].path.read_text() == "runner"


@needs_gcc
def test_digests_are_of_the_files(compiled: list[Path]) -> None:
    made = payload("onnx", HERE, own_libc=False)
    for file in made.files:
        assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
    assert made.size_bytes == sum(file.path.stat().st_size for file in made.files)
    assert len(made.digest) == 64


@needs_gcc
@pytest.mark.parametrize("own_libc", [False, True], ids=["device's libc", "own libc"])
@pytest.mark.parametrize("backend", ["executorch", "onnx"])
def test_a_payload_runs_from_any_folder(
    pico_bundle: Path, tmp_path: Path, backend: str, own_libc: bool
) -> None:
    pytest.importorskip(backend if backend == "executorch" else "onnxruntime")
    made = payload(backend, HERE, own_libc)
    folder = folder_of(made, tmp_path)
    script = ["feed 5 6 7", "phase used"]
    status, events, _ = run(made.command, pico_bundle, script, tmp_path, start_in=folder)
    assert status == 0, events[-1]
    (runtime,) = [event for event in events if event["event"] == "runtime"]
    assert (runtime["name"], runtime["version"]) == (made.runtime, made.runtime_version)
    mapped = {Path(m["path"]) for m in events[-2]["mappings"] if ".so" in m["path"]}
    assert any(path.parent == folder for path in mapped)
    if own_libc:
        # Nothing of this system's own.
        assert {path.parent for path in mapped} == {folder}


def test_an_unknown_processor_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="compiling for riscv128: riscv128-linux-gnu-gcc and"):
        payload("onnx", "riscv128", own_libc=True)
