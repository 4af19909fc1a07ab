"""Runners compiled for this machine, once for all processes and runs."""

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TEST_CACHE
from tests.doubles.tools import advice, missing_tools


@pytest.fixture(scope="session")
def executorch_runner(runners_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a runner for this machine."""
    pytest.importorskip("executorch")
    return runner_here("executorch", runners_folder, tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="session")
def onnx_runner(runners_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a runner for this machine."""
    return runner_here("onnx", runners_folder, tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="session")
def runners_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache for commands, of which only the runners that they compile outlast this run."""
    skip_without_compilers()
    cache, compiled = tmp_path_factory.mktemp("cache"), TEST_CACHE / "runners"
    compiled.mkdir(parents=True, exist_ok=True)
    (cache / "runners").symlink_to(compiled.absolute())
    return cache


@pytest.fixture(scope="module")
def compiling_commands(runners_folder: Path) -> Iterator[None]:
    """Let commands compile runners, not into the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCKETLM_CACHE", str(runners_folder))
        yield


def skip_without_compilers() -> None:
    """Skip a test where runners cannot be compiled."""
    if missing := missing_tools(("gcc", "g++")):
        pytest.skip(advice(missing))


def runner_here(backend: str, cache: Path, folder: Path) -> Path:
    """Lay out what a device of this machine's kind is sent; return the runner."""
    from pocketlm.device_tests.runners.payload import RUNNER, payload

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCKETLM_CACHE", str(cache))
        made = payload(backend, platform.machine(), own_libc=False)
    for file in made.files:
        if file.executable:
            # It looks for libraries where it really lies.
            shutil.copy2(file.path, folder / file.name)
        else:
            (folder / file.name).symlink_to(file.path)
    return folder / RUNNER
