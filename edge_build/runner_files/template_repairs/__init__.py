"""Rewritings of chat templates for engines that know less of jinja: one file each, found by name.

A file offers `REWRITE`: template → template that renders alike in jinja2 itself.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

NAMES = tuple(sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "__init__"))


def load(name: str) -> Callable[[str], str]:
    """Return the rewriting of a file."""
    assert name in NAMES, f"no rewriting {name}; there are {', '.join(NAMES)}"
    rewrite: Callable[[str], str] = import_module(f"{__name__}.{name}").REWRITE
    return rewrite
