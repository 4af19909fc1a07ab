"""A phone and a board under qemu-user, each with how it is reached and what it refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest

from pocketlm.device_tests.device.targets.ssh import CONFIG_VARIABLE
from pocketlm.device_tests.errors import DeviceError
from tests.doubles.adb_server import AdbServer
from tests.doubles.prepare import prepared
from tests.doubles.qemu_user import UserBoard, UserPhone
from tests.doubles.ssh_access import ALIAS
from tests.doubles.tools import advice, missing_tools
from tests.doubles.user_worlds import UserMachine


@dataclass(frozen=True)
class DoubledDevice:
    """A double that runs.

    Attributes:
        name: of the target.
        system: what it says it is.
        foreign, unwritable: folders of another user, and of a disk that nobody may write to.
        gone: what is said of it when nothing answers any more.
        check: what to do then.
    """

    double: UserPhone | UserBoard
    name: str
    system: str
    foreign: PurePosixPath
    unwritable: PurePosixPath
    gone: str
    check: str


@contextmanager
def adb_server(*tools: str) -> Iterator[AdbServer]:
    """Have our own adb talk to a server that knows only what the tests connect.

    Args:
        tools: what else the tests need; without arguments, what phones under qemu-user need.
    """
    skip_without("adb", "setpriv", *(tools or ("qemu-aarch64-static",)))
    with AdbServer() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("ANDROID_ADB_SERVER_PORT", "ADB_MDNS"):
            patch.setenv(name, server.environment[name])
        patch.delenv("ANDROID_SERIAL", raising=False)
        yield server


@contextmanager
def phone_over_adb(server: AdbServer, machine: UserMachine) -> Iterator[DoubledDevice]:
    """Run a phone and connect it."""
    with UserPhone(machine) as phone:
        server.connect(phone.serial)
        yield DoubledDevice(
            phone,
            f"adb:{phone.serial}",
            system="Linux",
            foreign=PurePosixPath("/data/local"),
            unwritable=PurePosixPath("/system"),
            gone="adb cannot connect to it; check that it is on",
            check="check its cable",
        )
        server.run("disconnect", phone.serial)


@contextmanager
def board_over_ssh(machine: UserMachine) -> Iterator[DoubledDevice]:
    """Run a board and let our own ssh know it."""
    skip_without("ssh", "ssh-keygen", "qemu-aarch64-static", "setpriv")
    with UserBoard(machine) as board, pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONFIG_VARIABLE, str(board.ssh.config))
        yield DoubledDevice(
            board,
            f"ssh:{ALIAS}",
            system="Debian GNU/Linux 13 (trixie)",
            foreign=PurePosixPath("/run"),
            unwritable=PurePosixPath("/usr"),
            gone=f"Connection refused.*; is ssh:{ALIAS} its name, and is sshd running",
            check="check its network",
        )


def skip_without(*tools: str) -> None:
    """Skip a test where a tool, or what `prepare` builds, is missing."""
    if missing := missing_tools(tools):
        pytest.skip(advice(missing))
    try:
        prepared()
    except DeviceError as error:
        pytest.skip(str(error))
