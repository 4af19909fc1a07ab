"""A phone and a board whose every program runs under qemu-user, with this machine's kernel.

Quick to start, and right for protocols, for failures and for the arithmetic of 64-bit ARM. Memory
figures are inflated by the emulator; /proc/meminfo and /sys are made up. The daemon listens where
only this double is (`inside.py`); outside there is one port of 127.0.0.1. Two can run at once.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.doubles.namespace import Namespace
from tests.doubles.prepare import prepared
from tests.doubles.ssh_access import SshAccess
from tests.doubles.user_worlds import UserMachine, board_world, phone_world
from tests.doubles.world import World


class _UserDouble:
    def __init__(self) -> None:
        self._stack = ExitStack()
        self._namespace: Namespace | None = None

    def __exit__(self, *ended: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """Of the process that everything of this double ends with."""
        return self._running.pid

    @property
    def port(self) -> int:
        """Of 127.0.0.1."""
        return self._running.port

    def freeze(self) -> None:
        """Stop every program: connections stay, and nothing answers any more."""
        self._running.tell("freeze")

    def resume(self) -> None:
        """Let a frozen double go on."""
        self._running.tell("resume")

    def kill_daemon(self) -> None:
        """Kill the daemon: connections break, and none can be made. What it started may live on."""
        self._running.tell("kill")

    def restart_daemon(self) -> None:
        """Start a daemon again, on the same port."""
        self._running.tell("start")

    def _run(self, world: World, log: Path, stack: ExitStack) -> None:
        self._namespace = stack.enter_context(Namespace(world, log))

    @property
    def _running(self) -> Namespace:
        assert self._namespace is not None, "only within the context"
        return self._namespace


class UserPhone(_UserDouble):
    """A context in which an Android-shaped phone with a real adbd runs.

    Attributes:
        serial: what adb connects to, once it runs.
    """

    def __init__(self, machine: UserMachine | None = None) -> None:
        super().__init__()
        self._machine = machine or UserMachine()
        self.serial = ""

    def __enter__(self) -> "UserPhone":
        with ExitStack() as stack:
            folder = _temporary_folder(stack)
            world = phone_world(prepared().phone, self._machine, folder)
            self._run(world, folder / "log", stack)
            self._stack = stack.pop_all()
        self.serial = f"127.0.0.1:{self.port}"
        return self


class UserBoard(_UserDouble):
    """A context in which a small Debian with a real ssh server runs.

    Attributes:
        ssh: the configuration to log in with, once it runs.
    """

    def __init__(self, machine: UserMachine | None = None) -> None:
        super().__init__()
        self._machine = machine or UserMachine()
        self.ssh: SshAccess

    def __enter__(self) -> "UserBoard":
        with ExitStack() as stack:
            folder = _temporary_folder(stack)
            self.ssh = SshAccess.make(folder / "ssh")
            world = board_world(prepared().board, self._machine, folder, self.ssh.server)
            self._run(world, folder / "log", stack)
            self._stack = stack.pop_all()
        self.ssh.lead_to(self.port)
        return self


def _temporary_folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pocketlm-double-")))
