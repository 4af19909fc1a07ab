"""An adb server of our own: the developer's one, its devices and its keys stay untouched."""

import os
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.one_process import OneProcess
from tests.doubles.ports import free_port
from tests.doubles.tools import guarded, tool

_POLL_S = 0.02
_START_S = 20


class AdbServer(OneProcess):
    """A context in which adb, run with `environment`, knows only the devices that we connect."""

    def __init__(self) -> None:
        super().__init__()
        self.environment: dict[str, str] = {}

    def __enter__(self) -> "AdbServer":
        with ExitStack() as stack:
            made = tempfile.TemporaryDirectory(prefix="pocketlm-adb-")
            home = Path(stack.enter_context(made))
            port = free_port()
            self.environment = _environment(home, port)
            log = home / "server.log"
            with log.open("wb") as out:
                self._process = subprocess.Popen(
                    guarded(["adb", "-P", str(port), "server", "nodaemon"]),
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            stack.callback(self._end)
            self._wait(port, log)
            self._stack = stack.pop_all()
        return self

    def run(
        self, *arguments: str | Path, timeout_s: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run adb; its status is in what is returned.

        Raises:
            subprocess.TimeoutExpired: it takes longer.
        """
        return subprocess.run(
            [tool("adb"), *map(str, arguments)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )

    def connect(self, serial: str, timeout_s: float = 20) -> None:
        """Connect a device and wait until it is ready.

        Raises:
            DeviceError: it does not become ready.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            # A connection to what was there before hides what is there now.
            self.run("disconnect", serial)
            self.run("connect", serial, timeout_s=timeout_s)
            if (state := self.state(serial)) == "device":
                return
            if time.monotonic() > deadline:
                raise DeviceError(f"{serial}: adb says {state!r} after {timeout_s:g} s")
            time.sleep(_POLL_S)

    def state(self, serial: str) -> str:
        """Return what `adb devices` says: "device", "offline", "unauthorized"; or "absent"."""
        for line in self.run("devices").stdout.splitlines():
            words = line.split()
            if words[:1] == [serial]:
                return words[1]
        return "absent"

    def _wait(self, port: int, log: Path) -> None:
        deadline = time.monotonic() + _START_S
        # Any command of adb would start a server by itself, a second one, if ours were not up yet.
        while not _listens(port):
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip()[-1000:]
                raise DeviceError(f"no adb server came up on port {port}: {said}")
            time.sleep(_POLL_S)
        self.run("devices")  # answered when it has made its keys


def _environment(home: Path, port: int) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ADB_", "ANDROID_"))
    }
    return kept | {
        "ANDROID_ADB_SERVER_PORT": str(port),
        # Where keys and settings lie, by Google's adb and by Debian's.
        "HOME": str(home),
        "ANDROID_USER_HOME": str(home),
        "ANDROID_SDK_HOME": str(home),
        "TMPDIR": str(home),
        "ADB_MDNS": "0",
        "LC_ALL": "C",
    }


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
