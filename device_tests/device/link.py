"""What a way to reach a device offers underneath: text there, text back, files both ways.

Nothing here is certain to have happened: `shell_target.py` proves it by end marks and digests.
"""

from pathlib import Path, PurePosixPath
from typing import Protocol

from pocketlm.device_tests.device.external_tool import ToolRun
from pocketlm.device_tests.errors import DeviceError


class Link(Protocol):
    """One connection. Calls raise ToolTimeoutError when their time is up, nothing else."""

    @property
    def name(self) -> str:
        """What the user calls the device."""

    @property
    def advice(self) -> str:
        """What to do when the device is gone, as a clause: "check its cable"."""

    @property
    def broken_status(self) -> int | None:
        """The tool's status where the connection broke, and only there; None: there is none."""

    def call(self, text: str, timeout_s: float) -> ToolRun:
        """Have a shell there read a line; return what came back, and what the tool said of it."""

    def push(self, source: Path, path: PurePosixPath, timeout_s: float) -> ToolRun:
        """Copy a file there, over what is there."""

    def pull(self, path: PurePosixPath, out: Path, timeout_s: float) -> ToolRun:
        """Copy a file here."""

    def refusal(self, errors: str) -> DeviceError | None:
        """Return the error for what the tool said, if that means that the device refuses us."""

    def recover(self, errors: str) -> bool:
        """Connect anew where the tool's words mean that it never came through.

        Returns:
            Whether it is worth while to try again; nothing that was asked for has happened yet.
        """

    def close(self) -> None:
        """End what holds the connection."""
