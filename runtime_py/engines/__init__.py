"""How each backend runs: a folder with its engine and memory model, found by folder name."""

import difflib
import pkgutil
from importlib import import_module

from pocketlm.runtime_py.engine import Engine
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.memory_model import RuntimeMemory


def names() -> tuple[str, ...]:
    """Return the backends that can run."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def load(name: str) -> Engine:
    """Return the engine of a folder.

    Raises:
        RunError: there is no such folder.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise RunError(f"--backend {name}: unknown{hint} known: {', '.join(known)}")
    engine: Engine = import_module(f"{__name__}.{name}.engine").ENGINE
    return engine


def packed_cache_names() -> tuple[str, ...]:
    """Return the backends whose runners can keep packed weights in a file."""
    return tuple(name for name in names() if load(name).packed_cache)


def load_memory(name: str) -> RuntimeMemory:
    """Return the memory model of a backend."""
    memory: RuntimeMemory = import_module(f"{__name__}.{name}.memory").MEMORY
    return memory
