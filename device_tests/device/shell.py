"""Shell text for a device, and what its output says: quoting, end marks, sections.

Only what POSIX sh has is used, and tools that both coreutils and toybox have.
"""

import re
import secrets
import shlex
from collections.abc import Iterable
from pathlib import PurePosixPath

from pocketlm.device_tests.device.shell_numbers import NUMBER
from pocketlm.device_tests.device.target import Finished, RefusedError
from pocketlm.device_tests.errors import DeviceError
from pocketlm.runtime_py.terminal import printable_line

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


def begin_mark(nonce: str) -> str:
    """Return the line behind which a command's own output begins."""
    return f"@@begin {nonce}"


def with_marks(command: str, nonce: str) -> str:
    """Return a command whose output stands between two lines; the last one says how it ended.

    What an account's start file prints stands before the first. The command runs in a shell of its
    own, so that neither its `exit` nor its syntax can take the last one away, nor a start file's
    `set -e`.
    """
    return (
        f"printf '%s\n' '{begin_mark(nonce)}'; sh -c {quote(command)} </dev/null 2>&1 "
        f"&& s=0 || s=$?; printf '\n@@end {nonce} %s\n' \"$s\""
    )


def has_begun(output: str, nonce: str) -> bool:
    """Return whether a command's first line came back."""
    return re.search(rf"{begin_mark(nonce)}\r?\n", output) is not None


def read_marks(output: str, nonce: str) -> Finished | None:
    """Return what the command wrote and its status; None where a mark is missing or cut."""
    found = re.search(
        rf"{begin_mark(nonce)}\r?\n(.*?)\r?\n@@end {nonce} ({NUMBER})\r?\n", output, re.DOTALL
    )
    return Finished(int(found[2]), found[1]) if found else None


def noisy_start_error(name: str, said: str) -> DeviceError:
    """Return the error for an account whose shell does not come to run what it is sent."""
    shown = printable_line(said.strip())[:200]
    what = f"its shell printed {shown!r} and then" if shown else "its shell"
    return DeviceError(
        f"{name}: {what} did not run the command; a start file there (~/.bashrc, ~/.profile) or a "
        "forced command ends it. Put this at the top of the start file: "
        "case $- in *i*) ;; *) return;; esac"
    )


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
