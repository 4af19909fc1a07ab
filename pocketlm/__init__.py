"""Builds, runs, verifies and profiles language models for phones. Loads nothing heavy by itself."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketlm.cli import main

__all__ = ["main"]

_HOMES = {"main": "pocketlm.cli"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
