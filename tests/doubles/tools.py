"""The programs of this machine that the doubles are made and run with."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketlm.device_tests.errors import DeviceError

# The Debian package that each tool comes with.
_PACKAGES = {
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "adb": "adb",
    "apt-cache": "apt",
    "apt-config": "apt",
    "apt-get": "apt",
    "chromium": "chromium",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "g++": "g++",
    "gcc": "gcc",
    "mke2fs": "e2fsprogs",
    "newgidmap": "uidmap",
    "newuidmap": "uidmap",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-system-aarch64": "qemu-system-arm",
    "readelf": "binutils",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "unshare": "util-linux",
}
# System tools are in folders that an ordinary user's PATH may lack.
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def missing_tools(names: Sequence[str]) -> tuple[str, ...]:
    """Return those that are not installed."""
    return tuple(name for name in names if shutil.which(name, path=_PATH) is None)


def advice(missing: Sequence[str]) -> str:
    """Say which tools are needed, and how to get them."""
    packages = " ".join(dict.fromkeys(_PACKAGES[name] for name in missing))
    return f"needs {', '.join(missing)}; on Debian: apt-get install {packages}"


def tool(name: str) -> str:
    """Return its path.

    Raises:
        DeviceError: it is not installed.
    """
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise DeviceError(f"an emulated device {advice([name])}")
    return found


def run_tool(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 300,
) -> str:
    """Run a tool by its name and return what it prints.

    Raises:
        DeviceError: it is missing, fails, or takes longer.
    """
    name = str(command[0])
    words = [tool(name), *map(str, command[1:])]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=None if env is None else dict(env),
            cwd=cwd,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"{name} did not end within {timeout_s:g} s: {' '.join(words)}"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise DeviceError(f"{name} failed with status {done.returncode}: {said}")
    return done.stdout


def guarded(command: Sequence[str | Path]) -> list[str]:
    """Return a command that the kernel kills when the thread that started it is gone.

    Start such commands from the main thread: a worker thread's end would end them too.
    """
    name, *arguments = map(str, command)
    return [tool("setpriv"), "--pdeathsig", "KILL", tool(name), *arguments]
