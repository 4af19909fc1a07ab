"""Runs a device bundle on the host, the way a device would."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketlm.runtime_py.bundle import Bundle, open_bundle
    from pocketlm.runtime_py.errors import RunError
    from pocketlm.runtime_py.sampling import SamplingOptions
    from pocketlm.runtime_py.session import Session, open_session
    from pocketlm.runtime_py.text import open_model

__all__ = [
    "Bundle",
    "RunError",
    "SamplingOptions",
    "Session",
    "open_bundle",
    "open_model",
    "open_session",
]

_HOMES = {
    "Bundle": "pocketlm.runtime_py.bundle",
    "RunError": "pocketlm.runtime_py.errors",
    "SamplingOptions": "pocketlm.runtime_py.sampling",
    "Session": "pocketlm.runtime_py.session",
    "open_bundle": "pocketlm.runtime_py.bundle",
    "open_model": "pocketlm.runtime_py.text",
    "open_session": "pocketlm.runtime_py.session",
}


def __getattr__(name: str) -> Any:
    # The command line imports this package for every command; numpy only where it is used.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
