"""Shell text for a device: quoting, end marks, sections. Knows no connection and runs nothing.

Only what POSIX sh has is used, and tools that both coreutils and toybox have.
"""

import re
import secrets
import shlex
from collections.abc import Iterable
from pathlib import PurePosixPath

from device_tests.errors import DeviceError
from device_tests.target import Finished, RefusedError

_SECTION = "@@ "

NO_SPACE = "No space left on device"
_NO_PERMISSION = ("Permission denied", "Read-only file system", "Operation not permitted")
_NOT_FOUND = re.compile(r"(\S+): (?:inaccessible or )?not found")


def new_nonce() -> str:
    """Return a name that no other run has."""
    return secrets.token_hex(8)


def quote(word: str | PurePosixPath) -> str:
    """Return one word of a shell command."""
    return shlex.quote(str(word))


def with_end_mark(command: str, nonce: str) -> str:
    """Return a command whose output ends in a line that proves that it ended, and how.

    The command runs in a shell of its own, so that neither its `exit` nor its syntax can take the
    mark away.
    """
    return f"sh -c {quote(command)} </dev/null 2>&1; printf '\\n@@end {nonce} %s\\n' \"$?\""


def read_end_mark(output: str, nonce: str) -> Finished | None:
    """Return what the command wrote and its status; None where the mark is missing or cut."""
    found = re.search(rf"\r?\n@@end {nonce} (\d+)\r?\n$", output)
    return Finished(int(found[1]), output[: found.start()]) if found else None


def section(name: str, command: str) -> str:
    """Return a command whose output stands under a heading, and whose failure is no output."""
    return f"printf '\\n{_SECTION}{name}\\n'; {{ {command}; }} 2>/dev/null"


def read_sections(output: str) -> dict[str, str]:
    """Return what stands under each heading."""
    found = {}
    for part in f"\n{output}".replace("\r\n", "\n").split(f"\n{_SECTION}")[1:]:
        name, _, text = part.partition("\n")
        found[name] = text.strip("\n")
    return found


def files_section(name: str, paths: Iterable[str]) -> str:
    """Return a section with the texts of files, as far as they can be read."""
    return section(name, f"cat {' '.join(paths)}")


def check(done: Finished, what: str) -> str:
    """Return the output of a command that succeeded.

    Args:
        what: what it was to do and where, for the error.

    Raises:
        DeviceError: it failed; RefusedError where the device has no room or does not let us.
    """
    if done.status == 0:
        return done.output
    raise refusal(done.output, what, done.status)


def refusal(said: str, what: str, status: int) -> DeviceError:
    """Return the error for what a device, or a tool on its behalf, said when something failed."""
    shown = said.strip()[-500:] or f"status {status} without a word"
    if NO_SPACE in said:
        return RefusedError(f"{what}: {shown}; free some space on the device", "no_space")
    if any(text in said for text in _NO_PERMISSION):
        return RefusedError(f"{what}: {shown}; this user may not do that there", "permission")
    missing = _NOT_FOUND.search(said)
    if status == 127 and missing:
        return DeviceError(
            f"{what}: {shown}; it needs {missing[1]}, which coreutils and toybox both bring"
        )
    return DeviceError(f"{what}: {shown}")
