"""What is installed against what building and running need."""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import psutil
from packaging.requirements import Requirement

# Distributions whose versions shape the bytes of an artifact.
_TOOLS = ("pocketlm", "torch", "executorch", "torchao", "onnx", "onnxscript", "numpy")


@dataclass(frozen=True)
class Check:
    """One line of `pocketlm doctor`."""

    name: str
    found: str
    wanted: str
    ok: bool


def tool_versions() -> dict[str, str]:
    """Return the version of everything that shapes an artifact's bytes."""
    return {tool: version(tool) for tool in _TOOLS}


def inspect_installation() -> tuple[Check, ...]:
    """Compare installed distributions with pocketlm's own requirements, and say what machine."""
    wanted = [Requirement(text) for text in requires("pocketlm") or ()]
    checks = [
        _check(requirement)
        for requirement in wanted
        if requirement.marker is None or requirement.marker.evaluate({"extra": "build"})
    ]
    memory_gb = psutil.virtual_memory().total / 1e9
    disk_gb = shutil.disk_usage(os.curdir).free / 1e9
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return (
        Check("python", platform.python_version(), ">=3.11", True),
        *checks,
        Check("machine", f"{platform.machine()}, {cores} cores", "x86_64 or aarch64", True),
        Check("memory", f"{memory_gb:.1f} GB", "follows the model's largest tensor", True),
        Check("free disk", f"{disk_gb:.1f} GB", "about 3x the 4-bit model", True),
    )


def _check(requirement: Requirement) -> Check:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Check(requirement.name, "not installed", str(requirement.specifier), False)
    ok = requirement.specifier.contains(found.partition("+")[0], prereleases=True)
    return Check(requirement.name, found, str(requirement.specifier), ok)
