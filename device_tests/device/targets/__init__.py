"""The ways to reach a device: one file each, found by file name."""

import difflib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from pocketlm.device_tests.device.target import (
    Listed,
    LostDeviceError,
    RefusedError,
    Target,
    TargetState,
)
from pocketlm.device_tests.errors import DeviceError

KINDS = tuple(sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "__init__"))
NAMES = KINDS  # as every plug point calls it


class TargetKind(Protocol):
    """What a file here offers under the name KIND."""

    def open(self, address: str) -> Target:
        """Connect; the address is what stands after the colon, empty where nothing does."""

    def discover(self) -> tuple[Listed, ...]:
        """Return what can be found without an address, without the facts of ready ones."""


def load(kind: str) -> TargetKind:
    """Return the kind of a file name.

    Raises:
        DeviceError: there is no such file.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ";"
        raise DeviceError(
            f"--on {kind}: unknown{hint} known: {', '.join(KINDS)}, "
            "as in adb:SERIAL, ssh:HOST or host"
        )
    found: TargetKind = import_module(f"{__name__}.{kind}").KIND
    return found


def open_target(name: str) -> Target:
    """Connect to a device: "adb:SERIAL", "adb" for the only one, "ssh:HOST" or "host".

    Close it after use.

    Raises:
        DeviceError: the name means nothing, or not one device.
        LostDeviceError, RefusedError: the device does not answer, or refuses us.
    """
    kind, _, address = name.partition(":")
    return load(kind).open(address)


def list_targets(named: Sequence[str] = ()) -> tuple[Listed, ...]:
    """Return every device that can be found, and those that are named.

    Args:
        named: targets such as "ssh:HOST", which nothing can find.
    """
    found = [listed for kind in KINDS for listed in load(kind).discover()]
    known = {listed.name for listed in found}
    found += [Listed(name, "ready", "", None) for name in dict.fromkeys(named) if name not in known]
    return tuple(_with_facts(listed) if listed.state == "ready" else listed for listed in found)


def _with_facts(listed: Listed) -> Listed:
    try:
        target = open_target(listed.name)
    except DeviceError as error:
        return Listed(listed.name, _state(error), str(error), None)
    try:
        return Listed(target.name, "ready", "", target.facts())
    except DeviceError as error:
        return Listed(listed.name, _state(error), str(error), None)
    finally:
        target.close()


def _state(error: DeviceError) -> TargetState:
    if isinstance(error, RefusedError):
        return "unauthorized" if error.reason == "unauthorized" else "no_permissions"
    return "offline" if isinstance(error, LostDeviceError) else "unreachable"
