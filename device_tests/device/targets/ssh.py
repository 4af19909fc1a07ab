"""Devices over ssh: the system's own client, with the user's own settings and keys.

Only commands are used, no sftp: small systems lack it, and a command can end in a mark.
"""

import mmap
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pocketlm.device_tests.device.external_tool import ToolRun, ToolTimeoutError, run_tool
from pocketlm.device_tests.device.shell import begin_mark, new_nonce, quote
from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.target import Listed, LostDeviceError, RefusedError, Target
from pocketlm.device_tests.errors import DeviceError
from pocketlm.runtime_py.terminal import printable_line

CONFIG_VARIABLE = "POCKETLM_SSH_CONFIG"
_OPTIONS = (
    "BatchMode=yes",  # never ask
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=2",
    "ControlMaster=auto",  # one connection for all commands: 75 ms each instead of 1 s
    "ControlPersist=60",
    "LogLevel=ERROR",
)
_UNREACHABLE = ("Could not resolve", "Connection refused", "timed out", "No route", "unreachable")


class SshLink:
    """One host, behind a connection that all commands share.

    Attributes:
        socket: of that connection, in a private folder.
    """

    advice = "check its network and power"
    broken_status: int | None = 255

    def __init__(self, host: str) -> None:
        ssh = shutil.which("ssh")
        if ssh is None:
            raise DeviceError(
                f"ssh:{host}: ssh not found; on Debian: apt-get install openssh-client"
            )
        self._host = host
        # A socket's path may have about 100 characters, so not below a long $TMPDIR.
        self.socket = Path(tempfile.mkdtemp(prefix="pocketlm-", dir="/tmp")) / "socket"
        config = os.environ.get(CONFIG_VARIABLE)
        options = (*_OPTIONS, f"ControlPath={self.socket}")
        self._command = (
            ssh,
            *(("-F", config) if config else ()),
            *(word for option in options for word in ("-o", option)),
        )

    @property
    def name(self) -> str:
        return f"ssh:{self._host}"

    def call(self, text: str, timeout_s: float) -> ToolRun:
        return self._run(f"exec sh -c {quote(text)}", timeout_s)

    def push(self, source: Path, path: PurePosixPath, timeout_s: float) -> ToolRun:
        return self._run(f"cat > {quote(path)}", timeout_s, source=source)

    def pull(self, path: PurePosixPath, out: Path, timeout_s: float) -> ToolRun:
        mark = begin_mark(new_nonce())
        text = f"printf '%s\\n' '{mark}'; exec cat {quote(path)}"
        done = self._run(f"exec sh -c {quote(text)}", timeout_s, out=out)
        _cut_greeting(out, f"{mark}\n".encode())
        return done

    def refusal(self, errors: str) -> DeviceError | None:
        said = errors.strip()
        if "Host key verification failed" in said or "REMOTE HOST IDENTIFICATION" in said:
            return RefusedError(
                f"{self.name}: {said[-300:]}; its key is not the known one: "
                f"connect once by hand: ssh {self._host}",
                "unauthorized",
            )
        if "Permission denied (" in said or "Too many authentication failures" in said:
            return RefusedError(
                f"{self.name}: {said[-300:]}; it must accept a key of yours without a password: "
                f"ssh-copy-id {self._host}",
                "unauthorized",
            )
        return None

    def recover(self, errors: str) -> bool:
        return False

    def close(self) -> None:
        self._leave()
        shutil.rmtree(self.socket.parent, ignore_errors=True)

    def _run(
        self, text: str, timeout_s: float, *, source: Path | None = None, out: Path | None = None
    ) -> ToolRun:
        try:
            return run_tool(
                (*self._command, "--", self._host, text),
                timeout_s=timeout_s,
                source=source,
                out=out,
            )
        except ToolTimeoutError:
            # The shared connection may be what hangs; the next command makes a new one.
            self._leave()
            raise

    def _leave(self) -> None:
        with suppress(ToolTimeoutError):
            run_tool((*self._command, "-O", "exit", "--", self._host), timeout_s=5)


def _cut_greeting(file: Path, mark: bytes) -> None:
    """Leave of a file what stands behind a mark; a start file's words stand before it."""
    if not file.stat().st_size:
        return
    with file.open("r+b") as written, mmap.mmap(written.fileno(), 0) as text:
        start = text.find(mark) + len(mark)
        if start < len(mark):
            return  # whoever checks what arrived finds that it is not the file
        size = len(text) - start
        text.move(0, start, size)
    os.truncate(file, size)


class SshKind:
    """`ssh:HOST`."""

    def open(self, address: str) -> Target:
        if not address or address.startswith("-"):
            raise DeviceError(
                f"--on ssh:{address}: it needs a host, as in ssh:pi@raspberrypi.local"
            )
        link = SshLink(address)
        try:
            return ShellTarget(link, _folder(link))
        except BaseException:
            link.close()
            raise

    def discover(self) -> tuple[Listed, ...]:
        return ()


def _folder(link: SshLink) -> PurePosixPath:
    """Return a folder on the device's disk: /tmp is in memory on many."""
    nowhere = ShellTarget(link, PurePosixPath("/"))
    try:
        home = nowhere.run('printf %s "$HOME"').output
    except LostDeviceError as error:
        if any(text in str(error) for text in _UNREACHABLE):
            raise LostDeviceError(
                f"{error}; is {link.name} its name, and is sshd running?"
            ) from error
        raise
    folder = PurePosixPath(home or "/tmp") / ".pocketlm"
    if not folder.is_absolute() or not home.isprintable():
        raise DeviceError(
            f"{link.name}: its $HOME is {printable_line(home)[:100]!r}, which is no absolute path; "
            "set it in the account's start file"
        )
    return folder


KIND = SshKind()
