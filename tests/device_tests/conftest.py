"""Runners compiled for this machine, once a test run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.tools import advice, missing_tools


@pytest.fixture(scope="session")
def executorch_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a runner for this machine."""
    pytest.importorskip("executorch")
    return compiled("executorch", tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="session")
def onnx_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a runner for this machine."""
    return compiled("onnx", tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="session")
def runners_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where commands keep the runners that they compile."""
    skip_without_compilers()
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def compiling_commands(runners_folder: Path) -> Iterator[None]:
    """Let commands compile runners, once a test run and not into the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCKETLM_CACHE", str(runners_folder))
        yield


def skip_without_compilers() -> None:
    """Skip a test where runners cannot be compiled."""
    if missing := missing_tools(("gcc", "g++")):
        pytest.skip(advice(missing))


def compiled(backend: str, folder: Path) -> Path:
    """Compile one backend's runner, or skip the test."""
    from pocketlm.device_tests import runners
    from pocketlm.device_tests.runners.compilation import toolchain
    from pocketlm.device_tests.runners.packages import installed

    skip_without_compilers()
    out = folder / f"{backend}-runner"
    return runners.load(backend).compile(out, toolchain(), installed(backend))
