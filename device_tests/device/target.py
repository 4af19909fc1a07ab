"""What a way to reach a device offers. One file in targets/ each, found by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from pocketlm.device_tests.device.facts import DeviceFacts
from pocketlm.device_tests.errors import DeviceError

TargetState = Literal["ready", "unauthorized", "offline", "unreachable", "no_permissions"]
Progress = Callable[[int, int], None]  # bytes done, bytes in all
# What stays free when a file is sent, unless more is asked for: room for what a run writes.
RESERVE_BYTES = 32 * 2**20


class LostDeviceError(DeviceError):
    """The device went away, or does not answer within the time that was allowed."""


class RefusedError(DeviceError):
    """The device answers, and does not let us do this: unauthorized, no permission, disk full.

    Attributes:
        reason: which of them.
    """

    def __init__(self, message: str, reason: Literal["unauthorized", "permission", "no_space"]):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Finished:
    """A command that ran to its end on the device.

    Attributes:
        status: its own exit status, brought back in the output; 128 + n after signal n.
        output: what it wrote, both streams.
    """

    status: int
    output: str


@dataclass(frozen=True)
class Listed:
    """One line of `pocketlm devices`.

    Attributes:
        name: "adb:SERIAL", "ssh:HOST" or "host".
        advice: what makes it ready, where it is not; empty where it is.
        facts: where it is ready.
    """

    name: str
    state: TargetState
    advice: str
    facts: DeviceFacts | None


class Target(Protocol):
    """One device that answers.

    Each call has a timeout, and ends in its result, LostDeviceError or RefusedError. The status of
    the tool that carries a command is never trusted: an end mark in the output proves that the
    command finished.
    """

    @property
    def name(self) -> str:
        """What the user calls it: "adb:SERIAL", "ssh:HOST" or "host"."""

    @property
    def folder(self) -> PurePosixPath:
        """Where everything of ours on the device lies."""

    def facts(self) -> DeviceFacts:
        """Read what the device is now."""

    def run(self, command: str, *, timeout_s: float = 30) -> Finished:
        """Run a line of POSIX shell and wait for its end."""

    def send(
        self,
        source: Path,
        path: PurePosixPath,
        progress: Progress | None = None,
        *,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        """Copy one file there, checked by size and sha256, whole or not at all.

        A file of the same sha256 that is there already is left alone; one that broke off goes on.
        What can be executed here can be there.

        Args:
            reserve_bytes: of the device's disk, that the file must leave free.
        """

    def fetch(self, path: PurePosixPath, out: Path) -> None:
        """Copy one file here."""

    def close(self) -> None:
        """Let go of the connection; the device keeps what it has."""
