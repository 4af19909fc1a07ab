"""Runners compiled for this machine, once a test run."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def executorch_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a runner for this machine."""
    pytest.importorskip("executorch")
    if shutil.which("g++") is None:
        pytest.skip("needs gcc and g++")
    from device_tests.native.compilation import (
        compile_executorch_runner,
        executorch_package,
        toolchain,
    )

    out = tmp_path_factory.mktemp("native") / "executorch-runner"
    return compile_executorch_runner(out, toolchain(), executorch_package())
