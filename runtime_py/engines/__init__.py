"""How each backend runs: a folder with engine, memory model and apps, found by name."""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from pocketlm.runtime_py.app_runtime import AppRuntime
from pocketlm.runtime_py.errors import RunError, unknown_name

if TYPE_CHECKING:
    from pocketlm.runtime_py.engine import Engine
    from pocketlm.runtime_py.memory_model import RuntimeMemory


def names() -> tuple[str, ...]:
    """Return the backends that can run."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def load(name: str) -> "Engine":
    """Return the engine of a folder.

    Raises:
        RunError: there is no such folder.
    """
    known = names()
    if name not in known:
        raise RunError(unknown_name("--backend", name, known))
    engine: Engine = import_module(f"{__name__}.{name}.engine").ENGINE
    return engine


def packed_cache_names() -> tuple[str, ...]:
    """Return the backends whose runners can keep packed weights in a file."""
    return tuple(name for name in names() if load(name).packed_cache)


def load_memory(name: str) -> "RuntimeMemory":
    """Return the memory model of a backend."""
    memory: RuntimeMemory = import_module(f"{__name__}.{name}.memory").MEMORY
    return memory


def app_names() -> tuple[str, ...]:
    """Return what apps can run bundles with, of all backends."""
    return tuple(sorted(app for name in names() for app in _apps_of(name)))


def load_app(app: str) -> AppRuntime:
    """Return what an app of this name runs.

    Raises:
        RunError: no backend has it.
    """
    found = {app: runtime for name in names() for app, runtime in _apps_of(name).items()}
    if app not in found:
        raise RunError(f"--for {app}: unknown; choose one of {', '.join(sorted(found))}")
    return found[app]


def _apps_of(name: str) -> Mapping[str, AppRuntime]:
    apps: Mapping[str, AppRuntime] = import_module(f"{__name__}.{name}.apps").APPS
    return apps
