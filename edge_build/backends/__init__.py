"""The backends: one folder each, found by folder name."""

import difflib
from importlib import import_module
from pathlib import Path

from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.errors import BuildError

NAMES = tuple(sorted(p.parent.name for p in Path(__file__).parent.glob("*/__init__.py")))


def load(name: str) -> Backend:
    """Return the backend of a folder.

    Raises:
        BuildError: there is no such folder.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise BuildError(f"--backend {name}: unknown{hint} known: {', '.join(NAMES)}")
    backend: Backend = import_module(f"{__name__}.{name}").BACKEND
    return backend
