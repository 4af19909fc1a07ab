"""The readers: one file each, found by file name. `pocketlm` is the reference."""

from importlib import import_module
from pathlib import Path

from pocketlm.runtime_py.lint.reader import Reader

NAMES = tuple(sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "__init__"))


def load(name: str) -> Reader:
    """Return the reader of a file, which imports no runtime until it is asked."""
    reader: Reader = import_module(f"{__name__}.{name}").READER
    return reader
