"""What runs on the device: one folder a backend with RUNNER, and what all of them share."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocketlm.device_tests.runners.device_runner import DeviceRunner

NAMES = tuple(sorted(p.parent.name for p in Path(__file__).parent.glob("*/__init__.py")))


def load(name: str) -> "DeviceRunner":
    """Return the runner of a backend's folder."""
    runner: DeviceRunner = import_module(f"{__name__}.{name}").RUNNER
    return runner
