"""Builds, runs, verifies and profiles language models for phones. Loads nothing heavy by itself.

docs/python-api.md describes each name; pocketlm/cli.py is the command line.
"""

import logging
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketlm.api import advise, build, fit, generate, open_chat, profile, verify
    from pocketlm.cli import main as main
    from pocketlm.device_tests.errors import DeviceError
    from pocketlm.edge_build.errors import BuildError
    from pocketlm.models.errors import ModelError
    from pocketlm.runtime_py.errors import RunError
    from pocketlm.runtime_py.sampling import SamplingOptions
    from pocketlm.runtime_py.session import open_session
    from pocketlm.runtime_py.text import open_model

    __version__: str

__all__ = [
    "BuildError",
    "DeviceError",
    "ModelError",
    "RunError",
    "SamplingOptions",
    "__version__",
    "advise",
    "build",
    "fit",
    "generate",
    "open_chat",
    "open_model",
    "open_session",
    "profile",
    "verify",
]

_HOMES = {
    "BuildError": "pocketlm.edge_build.errors",
    "DeviceError": "pocketlm.device_tests.errors",
    "ModelError": "pocketlm.models.errors",
    "RunError": "pocketlm.runtime_py.errors",
    "SamplingOptions": "pocketlm.runtime_py.sampling",
    "advise": "pocketlm.api",
    "build": "pocketlm.api",
    "fit": "pocketlm.api",
    "generate": "pocketlm.api",
    "main": "pocketlm.cli",
    "open_chat": "pocketlm.api",
    "open_model": "pocketlm.runtime_py.text",
    "open_session": "pocketlm.runtime_py.session",
    "profile": "pocketlm.api",
    "verify": "pocketlm.api",
}

# A library says nothing unless its host wants to hear it.
logging.getLogger("pocketlm").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("pocketlm")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
