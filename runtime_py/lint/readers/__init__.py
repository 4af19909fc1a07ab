"""The readers: one file each, found by file name. `pocketlm` is the reference."""

import pkgutil
from importlib import import_module

from pocketlm.runtime_py.lint.reader import Reader


def names() -> tuple[str, ...]:
    """Return the readers that there are."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Reader:
    """Return the reader of a file, which imports no runtime until it is asked."""
    reader: Reader = import_module(f"{__name__}.{name}").READER
    return reader
