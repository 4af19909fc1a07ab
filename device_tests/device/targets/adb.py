"""Android devices, through adb.

adb's exit status says nothing: it is 0 when the daemon dies in the middle of a command. Its words
are its only reasons.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pocketlm.device_tests.device.adb_client import (
    AdbDevice,
    adb_devices,
    is_network_address,
    reconnect,
    run_adb,
)
from pocketlm.device_tests.device.external_tool import ToolRun
from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.target import Listed, LostDeviceError, RefusedError, Target
from pocketlm.device_tests.errors import DeviceError

FOLDER = PurePosixPath("/data/local/tmp/pocketlm")

# With these nothing of a command has reached the device.
_NOT_REACHED = re.compile(r"device offline|device '[^']*' not found|no devices/emulators found")


class AdbLink:
    """One device by its serial."""

    advice = "check its cable, and what adb devices says"
    broken_status: int | None = None

    def __init__(self, serial: str) -> None:
        self._serial = serial

    @property
    def name(self) -> str:
        return f"adb:{self._serial}"

    def call(self, text: str, timeout_s: float) -> ToolRun:
        return run_adb(("shell", text), timeout_s, serial=self._serial)

    def push(self, source: Path, path: PurePosixPath, timeout_s: float) -> ToolRun:
        return self._copy(("push", str(source), str(path)), timeout_s)

    def pull(self, path: PurePosixPath, out: Path, timeout_s: float) -> ToolRun:
        return self._copy(("pull", str(path), str(out)), timeout_s)

    def refusal(self, errors: str) -> DeviceError | None:
        said = errors.strip()[-300:]
        if "unauthorized" in said or "still authorizing" in said:
            return RefusedError(
                f"{self.name}: {said}; unlock it and accept this computer under "
                "'Allow USB debugging?'",
                "unauthorized",
            )
        if "insufficient permissions" in said or "no permissions" in said:
            return RefusedError(
                f"{self.name}: {said}; this user may not use its USB port: "
                "install android-sdk-platform-tools-common and plug it in again",
                "permission",
            )
        if "failed to start daemon" in said or "cannot connect to daemon" in said:
            return DeviceError(f"{self.name}: {said}; adb's own server is at fault")
        return None

    def recover(self, errors: str) -> bool:
        if not _NOT_REACHED.search(errors) or not is_network_address(self._serial):
            return False
        return reconnect(self._serial)

    def close(self) -> None:
        pass

    def _copy(self, arguments: Sequence[str], timeout_s: float) -> ToolRun:
        done = run_adb(arguments, timeout_s, serial=self._serial)
        # Of a copy, adb 29 says on stdout why it failed, and how fast that was.
        said = (done.output + done.errors).splitlines()
        reasons = [line for line in said if "error:" in line] or said
        return ToolRun(done.status, "", "\n".join(reasons))


class AdbKind:
    """`adb:SERIAL`, or `adb` for the only one."""

    def open(self, address: str) -> Target:
        devices = adb_devices()
        serial = address or _only(devices, os.environ.get("ANDROID_SERIAL"))
        device = next((found for found in devices if found.serial == serial), None)
        if (device is None or device.state == "offline") and is_network_address(serial):
            if not reconnect(serial):
                raise LostDeviceError(
                    f"--on adb:{serial}: adb cannot connect to it; check that it is on, on this "
                    "network, and that wireless debugging is"
                )
            devices = adb_devices()
            device = next((found for found in devices if found.serial == serial), None)
        if device is None:
            raise DeviceError(f"--on adb:{serial}: no such device; adb sees {_shown(devices)}")
        _require_ready(device)
        return ShellTarget(AdbLink(serial), FOLDER)

    def discover(self) -> tuple[Listed, ...]:
        try:
            devices = adb_devices()
        except DeviceError as error:
            return (Listed("adb", "unreachable", str(error), None),)
        return tuple(Listed(f"adb:{d.serial}", d.state, d.advice, None) for d in devices)


def _only(devices: tuple[AdbDevice, ...], chosen: str | None) -> str:
    if chosen:
        return chosen
    if not devices:
        raise DeviceError(
            "--on adb: adb sees no device; plug one in, and turn on USB debugging in its "
            "developer options"
        )
    if len(devices) > 1:
        names = ", ".join(f"adb:{device.serial} ({device.said})" for device in devices)
        raise DeviceError(f"--on adb: there are {len(devices)} devices; name one: {names}")
    return devices[0].serial


def _require_ready(device: AdbDevice) -> None:
    what = f"--on adb:{device.serial}: its state is {device.said!r}; {device.advice}"
    if device.state == "unauthorized":
        raise RefusedError(what, "unauthorized")
    if device.state == "no_permissions":
        raise RefusedError(what, "permission")
    if device.state != "ready":
        raise LostDeviceError(what)


def _shown(devices: tuple[AdbDevice, ...]) -> str:
    return ", ".join(f"{device.serial} ({device.said})" for device in devices) or "none"


KIND = AdbKind()
