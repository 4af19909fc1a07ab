"""What is installed, extra by extra, against what pocketlm requires, and what installs the rest."""

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import unquote

import psutil
from packaging.requirements import Requirement

from pocketlm.edge_build import backends
from pocketlm.edge_build.errors import BuildError

State = Literal["ok", "not installed", "wrong version"]
_PRODUCT = "pocketlm"
_PURPOSES = {
    _PRODUCT: "run bundles",
    "imports": "read GGUF files and checkpoints of compressed-tensors",
    "training": "train checkpoints for their grid with `pocketlm qat`",
    "device": "use a phone over adb where the system has no adb",
    "ray": "spread `pocketlm advise` over machines",
    "plots": "draw the plots of benchmarks",
    "test": "run the tests of pocketlm",
    "llama-cpp": "compare tokenizers with llama.cpp in `pocketlm lint`",
}


@dataclass(frozen=True)
class Package:
    """One required distribution.

    Attributes:
        found: the installed version; None if there is none.
        wanted: the versions that will do.
    """

    name: str
    found: str | None
    wanted: str
    state: State


@dataclass(frozen=True)
class Extra:
    """One extra of pocketlm, or "pocketlm": what is installed without any.

    Attributes:
        command: installs the extra whole.
    """

    name: str
    purpose: str
    packages: tuple[Package, ...]
    command: str

    @property
    def state(self) -> State:
        """ "not installed" where one package is absent, "wrong version" where all are there."""
        states = [package.state for package in self.packages]
        worst: tuple[State, ...] = ("not installed", "wrong version")
        return next((state for state in worst if state in states), "ok")

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the packages that are absent."""
        return tuple(p.name for p in self.packages if p.state == "not installed")


@dataclass(frozen=True)
class Machine:
    """What a build runs on."""

    processor: str
    cores: int
    memory_bytes: int
    free_disk_bytes: int
    python: str


def tool_versions() -> dict[str, str]:
    """Return the version of everything that shapes an artifact's bytes."""
    found = {}
    of_backends = (tool for name in backends.names() for tool in backends.load(name).tools)
    for tool in ("pocketlm", "torch", *of_backends, "numpy"):
        # Who builds for one backend has not the tools of the other.
        with suppress(PackageNotFoundError):
            found[tool] = version(tool)
    return found


def inspect_installation() -> tuple[Extra, ...]:
    """Compare what is installed with what pocketlm and each of its extras require.

    Extras that only join others are left out.
    """
    required = [Requirement(text) for text in requires(_PRODUCT) or ()]
    names = {name for r in required for name in re.findall(r'extra == "([^"]+)"', str(r.marker))}
    found = [_extra(_PRODUCT, [r for r in required if _is_needed(r, "")])]
    for name in (*backends.names(), *sorted(names - set(backends.names()))):
        ours = [r for r in required if _is_needed(r, name) and not _is_needed(r, "")]
        if any(requirement.name != _PRODUCT for requirement in ours):
            found.append(_extra(name, ours))
    return tuple(found)


def inspect_machine() -> Machine:
    """Say what a build would run on, in the working directory."""
    return Machine(
        processor=platform.machine(),
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        free_disk_bytes=shutil.disk_usage(os.curdir).free,
        python=platform.python_version(),
    )


def require_build_tools(chosen: Sequence[str] = ()) -> None:
    """Refuse to build without the tools.

    Args:
        chosen: names of backends; those that are unknown are refused elsewhere. Empty is all.

    Raises:
        BuildError: a distribution of a backend's extra is not installed; names the command.
    """
    names = [name for name in chosen if name in backends.names()] or backends.names()
    extras = [extra for extra in inspect_installation() if extra.name in names]
    missing = dict.fromkeys(name for extra in extras for name in extra.missing)
    if not missing:
        return
    whole = set(names) == set(backends.names())
    able = [extra.name for extra in extras if extra.state == "ok"] if whole else []
    other = f", or build with --backend {able[0]}" if able else ""
    command = install_command("build" if whole else ",".join(names))
    raise BuildError(f"building needs {', '.join(missing)}, not installed; run: {command}{other}")


def require_eager_models(doing: str) -> None:
    """Refuse to run checkpoints without what reads and computes them.

    Args:
        doing: what needs it, for the message.

    Raises:
        BuildError: a distribution is not installed; names the command.
    """
    missing = [name for name in ("torch", "safetensors") if not _is_there(name)]
    if missing:
        raise BuildError(
            f"{doing} needs {', '.join(missing)}, not installed; run: {install_command('build')}"
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def install_command(extras: str = "") -> str:
    """Return what installs pocketlm with extras, from where this pocketlm came.

    Args:
        extras: names with commas between.
    """
    extra = f"[{extras}]" if extras else ""
    origin = _origin()
    url = str(origin.get("url", ""))
    if not url.startswith("file://"):
        return f"pip install '{_PRODUCT}{extra}'"
    editable = "--editable " if origin.get("dir_info", {}).get("editable") else ""
    return f"{sys.executable} -m pip install {editable}'{unquote(url[7:])}{extra}'"


def _origin() -> dict[str, Any]:
    """Return where pip took this pocketlm from; empty if from an index.

    In a clone, what describes the source may come before what pip installed.
    """
    for found in distributions(name="pocketlm"):
        with suppress(ValueError):
            if text := found.read_text("direct_url.json"):
                return dict(json.loads(text))
    return {}


def _is_needed(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _extra(name: str, required: Sequence[Requirement]) -> Extra:
    packages = tuple(_package(requirement) for requirement in required)
    extras = "" if name == _PRODUCT else name
    purpose = _PURPOSES.get(name, f"build and run {name} artifacts")
    return Extra(name, purpose, packages, install_command(extras))


def _package(required: Requirement) -> Package:
    wanted = str(required.specifier)
    try:
        found = version(required.name)
    except PackageNotFoundError:
        return Package(required.name, None, wanted, "not installed")
    ok = required.specifier.contains(found.partition("+")[0], prereleases=True)
    return Package(required.name, found, wanted, "ok" if ok else "wrong version")
