"""What is installed against what building and running need."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from typing import Any, Literal
from urllib.parse import unquote

import psutil
from packaging.requirements import Requirement

from pocketlm.edge_build import backends
from pocketlm.edge_build.errors import BuildError

Need = Literal["run", "build", "machine"]
_MACHINE: Need = "machine"
_ABSENT = "not installed"


@dataclass(frozen=True)
class Check:
    """One line of `pocketlm doctor`.

    Attributes:
        needed_to: what cannot be done without it; "machine" is for information.
    """

    name: str
    found: str
    wanted: str
    ok: bool
    needed_to: Need


@dataclass(frozen=True)
class Readiness:
    """Whether one use of pocketlm can work, and what to type where it cannot.

    Attributes:
        state: "ok", "not installed" where something is absent, "wrong version" otherwise.
    """

    state: Literal["ok", "not installed", "wrong version"]
    missing: tuple[str, ...]
    command: str


def tool_versions() -> dict[str, str]:
    """Return the version of everything that shapes an artifact's bytes."""
    found = {}
    of_backends = (tool for name in backends.NAMES for tool in backends.load(name).tools)
    for tool in ("pocketlm", "torch", *of_backends, "numpy"):
        # Who builds for one backend has not the tools of the other.
        with suppress(PackageNotFoundError):
            found[tool] = version(tool)
    return found


def inspect_installation(extras: Sequence[str] = backends.NAMES) -> tuple[Check, ...]:
    """Compare installed distributions with pocketlm's own requirements, and say what machine.

    Args:
        extras: whose requirements are needed to build: a backend's has its name.
    """
    wanted = [Requirement(text) for text in requires("pocketlm") or ()]
    to_build = {
        str(requirement.name): requirement
        for requirement in wanted
        if any(_is_needed(requirement, extra) for extra in extras)
        and not _is_needed(requirement, "")
    }
    memory_gb = psutil.virtual_memory().total / 1e9
    disk_gb = shutil.disk_usage(os.curdir).free / 1e9
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return (
        Check("python", platform.python_version(), ">=3.11", True, "run"),
        *(_check(requirement, "run") for requirement in wanted if _is_needed(requirement, "")),
        *(_check(requirement, "build") for requirement in to_build.values()),
        Check(
            "machine", f"{platform.machine()}, {cores} cores", "x86_64 or aarch64", True, _MACHINE
        ),
        Check("memory", f"{memory_gb:.1f} GB", "follows the largest tensor", True, _MACHINE),
        Check("free disk", f"{disk_gb:.1f} GB", "about 3x the 4-bit model", True, _MACHINE),
    )


def readiness(checks: Sequence[Check], need: Need) -> Readiness:
    """Return what the checks say of one use."""
    failed = [check for check in checks if check.needed_to == need and not check.ok]
    state: Literal["ok", "not installed", "wrong version"] = "ok"
    if failed:
        absent = any(check.found == _ABSENT for check in failed)
        state = "not installed" if absent else "wrong version"
    return Readiness(state, tuple(check.name for check in failed), install_command(need))


def require_build_tools(chosen: Sequence[str] = ()) -> None:
    """Refuse to build without the tools.

    Args:
        chosen: names of backends; those that are unknown are refused elsewhere. Empty is all.

    Raises:
        BuildError: a distribution of a backend's extra is not installed; names the command.
    """
    extras = [name for name in chosen if name in backends.NAMES] or backends.NAMES
    ready = readiness(inspect_installation(extras), "build")
    if ready.state != "not installed":
        return
    whole = set(extras) == set(backends.NAMES)
    command = ready.command if whole else _command(",".join(extras))
    able = [name for name in backends.NAMES if _can_build(name)] if whole else []
    other = f", or build with --backend {able[0]}" if able else ""
    raise BuildError(
        f"building needs {', '.join(ready.missing)}, not installed; run: {command}{other}"
    )


def _can_build(backend: str) -> bool:
    return readiness(inspect_installation((backend,)), "build").state == "ok"


def _origin() -> dict[str, Any]:
    """Return where pip took this pocketlm from; empty if from an index.

    In a clone, what describes the source may come before what pip installed.
    """
    for found in distributions(name="pocketlm"):
        with suppress(ValueError):
            if text := found.read_text("direct_url.json"):
                return dict(json.loads(text))
    return {}


def install_command(need: Need) -> str:
    """Return what installs everything that a use needs, from where this pocketlm came."""
    return _command("build" if need == "build" else "")


def _command(extras: str) -> str:
    extra = f"[{extras}]" if extras else ""
    origin = _origin()
    url = str(origin.get("url", ""))
    if not url.startswith("file://"):
        return f"pip install 'pocketlm{extra}'"
    editable = "--editable " if origin.get("dir_info", {}).get("editable") else ""
    return f"{sys.executable} -m pip install {editable}'{unquote(url[7:])}{extra}'"


def _is_needed(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _check(requirement: Requirement, need: Need) -> Check:
    wanted = str(requirement.specifier)
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Check(requirement.name, _ABSENT, wanted, False, need)
    ok = requirement.specifier.contains(found.partition("+")[0], prereleases=True)
    return Check(requirement.name, found, wanted, ok, need)
