"""Runs a program of this machine with a time limit."""

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO


class ToolTimeoutError(Exception):
    """The program did not end within the time that was allowed; it was killed."""


@dataclass(frozen=True)
class ToolRun:
    """A program that ended.

    Attributes:
        status: its exit status; the caller decides what it means.
        output, errors: its two streams; what is no UTF-8 is replaced.
    """

    status: int
    output: str
    errors: str


def run_tool(
    command: Sequence[str],
    *,
    timeout_s: float,
    source: Path | None = None,
    out: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ToolRun:
    """Run a program without a shell and wait for its end.

    Streams go to files, not to pipes: programs that leave a server behind (adb, ssh with a shared
    connection) leave it the pipe as well, and reading to its end would wait for that server.

    Args:
        source: what it reads; nothing by default.
        out: file for its output, which is then not returned.
        environment: variables on top of our own; messages are in English always.

    Raises:
        ToolTimeoutError: as its name says.
        OSError: the program cannot be started, or a file cannot be opened.
    """
    variables = {**os.environ, "LC_ALL": "C", **(environment or {})}
    with (
        source.open("rb") if source else open(os.devnull, "rb") as reading,  # noqa: PTH123
        out.open("wb") if out else tempfile.TemporaryFile() as written,
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=reading, stdout=written, stderr=errors, env=variables
        ) as process,
    ):
        try:
            status = _wait(process, timeout_s)
        except BaseException:
            process.kill()
            raise
        return ToolRun(status, "" if out else _text(written), _text(errors))


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    """Wait for a program's end.

    Raises:
        ToolTimeoutError: it does not end in time.
    """
    if sys.platform == "linux":
        # Popen looks every 50 ms only, which is what a whole command on a phone takes.
        file = os.pidfd_open(process.pid)
        try:
            ended = select.poll()
            ended.register(file, select.POLLIN)
            ended.poll(timeout_s * 1000)
        finally:
            os.close(file)
        timeout_s = 0
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise ToolTimeoutError from None


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")
