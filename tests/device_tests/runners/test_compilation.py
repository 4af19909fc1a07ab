"""Compilers and libraries that are missing, and sources that do not compile."""

from pathlib import Path

import pytest

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.runners import packages
from pocketlm.device_tests.runners.compilation import Toolchain, compile_sampler, toolchain


def test_missing_compilers_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None)
    with pytest.raises(DeviceError, match=r"gcc and g\+\+ not found; .* apt-get install gcc g"):
        toolchain()
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(DeviceError, match=r"aarch64-linux-gnu-gcc .* apt-get install gcc-aarch64-"):
        toolchain("aarch64")


def test_a_missing_wheel_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="libraries of executorch's wheel"):
        packages.installed("executorch")


def test_what_the_compiler_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"false failed on sampler\.c"):
        compile_sampler(tmp_path / "sampler", Toolchain("x86_64", "false", "false"))
