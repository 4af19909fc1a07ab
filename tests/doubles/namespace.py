"""Starts `inside.py`, lets it be root of its own users, and tells it what to do."""

import getpass
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Literal

from pocketlm.device_tests.errors import DeviceError
from tests.doubles.ports import bound_socket
from tests.doubles.tools import run_tool
from tests.doubles.world import World

_USERS = 65536
_END_S = 20
# For the root of this machine, who needs no entry in /etc/subuid.
_FIRST_SUBORDINATE = 100_000


class Namespace:
    """A context in which one world exists; at its end nothing in it runs any more.

    Attributes:
        port: of 127.0.0.1, that leads to the daemon.
    """

    def __init__(self, world: World, log: Path) -> None:
        self._world = world
        self._log = log
        self._listener = bound_socket()
        self._process: subprocess.Popen[str] | None = None
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "Namespace":
        fd = self._listener.fileno()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.doubles.inside", str(fd)],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=(fd,),
                # Ctrl-C is for the parent, which then ends this one.
                start_new_session=True,
            )
        self._listener.close()
        try:
            self._expect("unshared")
            _map_users(self._process.pid)
            self._say(json.dumps(asdict(self._world)))
            self._expect("made")
            self.tell("start")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *ended: object) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Of the process outside that everything inside lives and dies with."""
        assert self._process is not None
        return self._process.pid

    def tell(self, command: str) -> None:
        """Let the daemon "start", or "freeze", "resume" or "kill" it.

        Raises:
            DeviceError: it cannot.
        """
        self._say(command)
        self._expect("done")

    def _say(self, line: str) -> None:
        try:
            stream = self._stream("stdin")
            stream.write(f"{line}\n")
            stream.flush()
        except BrokenPipeError as error:
            raise self._failure("it ended") from error

    def _expect(self, wanted: str) -> None:
        answer = self._stream("stdout").readline().strip()
        if answer != wanted:
            raise self._failure(answer or "it ended")

    def _stream(self, name: Literal["stdin", "stdout"]) -> IO[str]:
        assert self._process is not None
        stream = self._process.stdin if name == "stdin" else self._process.stdout
        assert stream is not None
        return stream

    def _failure(self, what: str) -> DeviceError:
        written = self._log.read_text(errors="replace").strip()[-2000:]
        return DeviceError(
            f"an emulated device could not be started or told: {what}. It needs Linux 6.7 and user "
            f"namespaces that may mount proc, which many containers forbid. {written}"
        )

    def _end(self) -> None:
        if self._process is None:
            return
        # Ends its input, which ends the first process inside, and with that everything.
        self._stream("stdin").close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stream("stdout").close()


def _map_users(pid: int) -> None:
    if os.geteuid() == 0:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 0 1\n1 {_FIRST_SUBORDINATE} {_USERS - 1}\n")
        return
    for program, listed, own in (
        ("newuidmap", "/etc/subuid", os.getuid()),
        ("newgidmap", "/etc/subgid", os.getgid()),
    ):
        first, count = _subordinate(Path(listed))
        run_tool([program, str(pid), "0", str(own), "1", "1", str(first), str(count)])


def _subordinate(listed: Path) -> tuple[int, int]:
    names = (getpass.getuser(), str(os.getuid()))
    for line in listed.read_text().splitlines() if listed.exists() else ():
        name, first, count = line.split(":")
        if name in names and int(count) >= _USERS - 1:
            return int(first), _USERS - 1
    raise DeviceError(
        f"{listed} gives {names[0]} no {_USERS} further users for an emulated device; "
        f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {names[0]}"
    )
