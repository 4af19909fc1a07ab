"""How each backend runs: a folder with its engine and memory model, found by folder name."""

import difflib
from importlib import import_module
from pathlib import Path

from pocketlm.runtime_py.engine import Engine
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.memory_model import RuntimeMemory

NAMES = tuple(sorted(p.parent.name for p in Path(__file__).parent.glob("*/engine.py")))


def load(name: str) -> Engine:
    """Return the engine of a folder.

    Raises:
        RunError: there is no such folder.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise RunError(f"--backend {name}: unknown{hint} known: {', '.join(NAMES)}")
    engine: Engine = import_module(f"{__name__}.{name}.engine").ENGINE
    return engine


def packed_cache_names() -> tuple[str, ...]:
    """Return the backends whose runners can keep packed weights in a file."""
    return tuple(name for name in NAMES if load(name).packed_cache)


def load_memory(name: str) -> RuntimeMemory:
    """Return the memory model of a backend."""
    memory: RuntimeMemory = import_module(f"{__name__}.{name}.memory").MEMORY
    return memory
