"""This machine, as if it were a device: the same commands, in a folder of its own."""

import os
import shutil
import stat
from pathlib import Path, PurePosixPath

from pocketlm.device_tests.device.external_tool import ToolRun, run_tool
from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.target import Listed, RefusedError, Target
from pocketlm.device_tests.errors import DeviceError
from pocketlm.runtime_py.user_cache import cache_folder


class HostLink:
    """A shell of this machine."""

    name = "host"
    advice = "look what this machine is busy with"
    broken_status: int | None = None

    def call(self, text: str, timeout_s: float) -> ToolRun:
        # What jobs leave here is nobody else's business.
        return run_tool(("/bin/sh", "-c", f"umask 077; {text}"), timeout_s=timeout_s)

    def push(self, source: Path, path: PurePosixPath, timeout_s: float) -> ToolRun:
        return _copied(source, Path(path))

    def pull(self, path: PurePosixPath, out: Path, timeout_s: float) -> ToolRun:
        return _copied(Path(path), out)

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
        folder = default_folder()
        check_folder(folder)
        return open_host(folder)

    def discover(self) -> tuple[Listed, ...]:
        return (Listed("host", "ready", "", None),)


def default_folder() -> Path:
    """Return where jobs of this user go here: in the user's cache, which is on a disk.

    Where a folder is in memory, as /tmp may be, a bundle's clean pages would count as memory that
    only swap can free.
    """
    return cache_folder() / "host"


def check_folder(folder: Path) -> None:
    """Refuse a folder that others could have put something into: programs in it are run.

    Raises:
        RefusedError: it is a link or no folder, is not ours, or others may write to it.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise RefusedError(f"--on host: {folder}: {error.strerror}", "permission") from error
    if not stat.S_ISDIR(found.st_mode):
        wrong = "is a link" if stat.S_ISLNK(found.st_mode) else "is no folder"
    elif found.st_uid != os.getuid():
        wrong = f"belongs to user {found.st_uid}"
    elif found.st_mode & 0o022:
        wrong = f"can be written by other users (mode {stat.S_IMODE(found.st_mode):o})"
    else:
        return
    raise RefusedError(
        f"--on host: {folder} {wrong}, and programs in it would be run; remove it, or name another "
        "folder in $POCKETLM_CACHE",
        "permission",
    )


def open_host(folder: Path) -> Target:
    """Return this machine with everything of ours in a folder."""
    return ShellTarget(HostLink(), PurePosixPath(folder), provenance="host")


def _copied(source: Path, path: Path) -> ToolRun:
    try:
        shutil.copyfile(source, path)
    except OSError as error:
        return ToolRun(1, "", str(error))
    return ToolRun(0, "", "")


KIND = HostKind()
