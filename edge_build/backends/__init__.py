"""The backends: one folder each, found by folder name."""

import pkgutil
from importlib import import_module

from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.errors import BuildError
from pocketlm.runtime_py.errors import unknown_name


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
        raise BuildError(unknown_name("--backend", name, known))
    backend: Backend = import_module(f"{__name__}.{name}").BACKEND
    return backend
