"""This machine, as if it were a device: the same commands, in a folder of its own."""

import os
import shutil
from pathlib import Path, PurePosixPath

from device_tests.errors import DeviceError
from device_tests.external_tool import ToolRun, run_tool
from device_tests.shell_target import ShellTarget
from device_tests.target import Listed, Target


class HostLink:
    """A shell of this machine."""

    name = "host"
    advice = "look what this machine is busy with"

    def call(self, text: str, timeout_s: float) -> ToolRun:
        return run_tool(("/bin/sh", "-c", text), timeout_s=timeout_s)

    def push(self, source: Path, place: PurePosixPath, timeout_s: float) -> ToolRun:
        return _copied(source, Path(place))

    def pull(self, place: PurePosixPath, out: Path, timeout_s: float) -> ToolRun:
        return _copied(Path(place), out)

    def refusal(self, errors: str) -> DeviceError | None:
        return None

    def recover(self, errors: str) -> bool:
        return False

    def close(self) -> None:
        pass


class HostKind:
    """`host`."""

    def open(self, address: str) -> Target:
        if address:
            raise DeviceError(
                f"--on host:{address}: host is this machine; ssh:{address} is another"
            )
        return open_host(default_folder())

    def discover(self) -> tuple[Listed, ...]:
        return (Listed("host", "ready", "", None),)


def default_folder() -> Path:
    """Return where jobs of this user go here.

    Not /tmp: where that is in memory, a bundle's clean pages would count as memory that only swap
    can free.
    """
    return Path(os.environ.get("TMPDIR", "/var/tmp")) / f"pocketlm-{os.getuid()}"


def open_host(folder: Path) -> Target:
    """Return this machine with everything of ours in a folder."""
    return ShellTarget(HostLink(), PurePosixPath(folder), provenance="host")


def _copied(source: Path, place: Path) -> ToolRun:
    try:
        shutil.copyfile(source, place)
    except OSError as error:
        return ToolRun(1, "", str(error))
    return ToolRun(0, "", "")


KIND = HostKind()
