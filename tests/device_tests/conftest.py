"""Runners compiled for this machine, once a test run."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def executorch_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a runner for this machine."""
    pytest.importorskip("executorch")
    return compiled("executorch", tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="session")
def onnx_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a runner for this machine."""
    return compiled("onnx", tmp_path_factory.mktemp("native"))


def compiled(backend: str, folder: Path) -> Path:
    """Compile one backend's runner, or skip the test."""
    from device_tests.native.compilation import COMPILE_RUNNER, toolchain
    from device_tests.native.packages import DISTRIBUTIONS, installed

    if shutil.which("g++") is None:
        pytest.skip("needs gcc and g++")
    out = folder / f"{backend}-runner"
    return COMPILE_RUNNER[backend](out, toolchain(), installed(DISTRIBUTIONS[backend]))
