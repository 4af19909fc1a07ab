"""The backends: one folder each, found by folder name."""

import difflib
import pkgutil
from importlib import import_module

from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.errors import BuildError


def names() -> tuple[str, ...]:
    """Return the backends that there are."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def load(name: str) -> Backend:
    """Return the backend of a folder.

    Raises:
        BuildError: there is no such folder.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise BuildError(f"--backend {name}: unknown{hint} known: {', '.join(known)}")
    backend: Backend = import_module(f"{__name__}.{name}").BACKEND
    return backend
