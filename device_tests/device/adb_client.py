"""The adb client of this system: where it is, what it lists.

Its server's port follows $ANDROID_ADB_SERVER_PORT, as adb itself reads it.
"""

import importlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pocketlm.device_tests.device.external_tool import ToolRun, ToolTimeoutError, run_tool
from pocketlm.device_tests.device.target import TargetState
from pocketlm.device_tests.errors import DeviceError

# The first call may have to start the server.
_START_S = 20.0
_CONNECT_S = 10.0

_STATES: dict[str, tuple[TargetState, str]] = {
    "device": ("ready", ""),
    "unauthorized": (
        "unauthorized",
        "unlock it and accept this computer under 'Allow USB debugging?'",
    ),
    "authorizing": ("unauthorized", "wait, or unlock it and accept this computer"),
    "offline": ("offline", "unplug it and plug it in again, or turn USB debugging off and on"),
    "connecting": ("offline", "wait until it is connected"),
    "no permissions": (
        "no_permissions",
        "this user may not use its USB port: install android-sdk-platform-tools-common, "
        "join the group plugdev, and plug it in again",
    ),
    "bootloader": ("unreachable", "it stands in its bootloader: let it start Android"),
    "recovery": ("unreachable", "it stands in recovery: let it start Android"),
    "sideload": ("unreachable", "it waits for an update: let it start Android"),
    "rescue": ("unreachable", "it stands in rescue mode: let it start Android"),
}


@dataclass(frozen=True)
class AdbDevice:
    """One line of `adb devices`.

    Attributes:
        said: the state in adb's own words.
    """

    serial: str
    said: str
    state: TargetState
    advice: str


def find_adb() -> str:
    """Return the client: $ADB, the one on PATH, or the one that the package adbutils brings.

    Raises:
        DeviceError: there is none.
    """
    chosen = os.environ.get("ADB")
    if chosen:
        found = shutil.which(chosen)
        if found is None:
            raise DeviceError(f"$ADB is {chosen}, which is no program; set it to adb or unset it")
        return found
    found = shutil.which("adb")
    if found is None and find_spec("adbutils") is not None:
        bundled = Path(str(importlib.import_module("adbutils").adb_path()))
        found = str(bundled) if bundled.exists() else None
    if found is None:
        raise DeviceError(
            "adb not found on PATH, and $ADB is not set; on Debian: apt-get install adb, "
            "elsewhere: pip install adbutils"
        )
    return found


def run_adb(arguments: Sequence[str], timeout_s: float, *, serial: str | None = None) -> ToolRun:
    """Run the client, for one device or for its server."""
    chosen = ("-s", serial) if serial else ()
    return run_tool((find_adb(), *chosen, *arguments), timeout_s=timeout_s)


def adb_devices() -> tuple[AdbDevice, ...]:
    """Return what adb sees, ready or not.

    Raises:
        DeviceError: there is no adb, or its server does not start.
    """
    try:
        # Apart, so that the server's start is not what the list waits for.
        run_adb(("start-server",), _START_S)
        done = run_adb(("devices",), _CONNECT_S)
    except ToolTimeoutError:
        raise DeviceError("adb devices: no answer; try adb kill-server") from None
    if done.status:
        raise DeviceError(f"adb devices: {done.errors.strip()[-300:]}; try adb kill-server")
    return read_devices(done.output)


def read_devices(output: str) -> tuple[AdbDevice, ...]:
    """Read the output of `adb devices`."""
    found = []
    for line in output.splitlines():
        serial, tab, said = line.partition("\t")
        if tab:
            # "no permissions (user in plugdev group; are your udev rules wrong?); see [...]"
            short = re.split(r"[;(]", said)[0].strip()
            state, advice = _STATES.get(short, ("unreachable", f"adb calls its state {said!r}"))
            found.append(AdbDevice(serial, said.strip(), state, advice))
    return tuple(found)


def is_network_address(serial: str) -> bool:
    """Return whether adb reached a device by `adb connect`."""
    return re.fullmatch(r"[\w.\-\[\]:]+:\d+", serial) is not None


def reconnect(serial: str) -> bool:
    """Connect anew to a device on the network; return whether it is ready then.

    `adb connect` alone answers "already connected" for one whose daemon has gone and come back.
    """
    try:
        run_adb(("disconnect", serial), _CONNECT_S)
        run_adb(("connect", serial), _CONNECT_S)
        done = run_adb(("get-state",), _CONNECT_S, serial=serial)
    except ToolTimeoutError:
        return False
    return done.output.strip() == "device"
