"""What runs on the device: one folder a backend with RUNNER, and what all of them share."""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocketlm.device_tests.runners.device_runner import DeviceRunner


def names() -> tuple[str, ...]:
    """Return the backends that run on devices."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def load(name: str) -> "DeviceRunner":
    """Return the runner of a backend's folder."""
    runner: DeviceRunner = import_module(f"{__name__}.{name}").RUNNER
    return runner
