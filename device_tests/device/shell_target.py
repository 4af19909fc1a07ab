"""A device behind any link that has a POSIX shell: what really happened there, proved."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pocketlm.device_tests.device.external_tool import ToolRun, ToolTimeoutError
from pocketlm.device_tests.device.facts import DeviceFacts, Provenance
from pocketlm.device_tests.device.link import Link
from pocketlm.device_tests.device.shell import (
    has_begun,
    new_nonce,
    noisy_start_error,
    read_marks,
    refusal,
    with_marks,
)
from pocketlm.device_tests.device.system_files import facts_command, read_facts
from pocketlm.device_tests.device.target import (
    RESERVE_BYTES,
    Finished,
    LostDeviceError,
    Progress,
    RefusedError,
)
from pocketlm.device_tests.device.transfer import PIECE_BYTES, Delivery, fetch_file, send_file
from pocketlm.device_tests.errors import DeviceError


@dataclass(frozen=True)
class ShellTarget:
    """A `Target`.

    Attributes:
        provenance: where it is known beforehand; otherwise it is read off the device.
        piece_bytes: files are sent in pieces of this size, so that one that broke off goes on.
    """

    link: Link
    folder: PurePosixPath
    provenance: Provenance | None = None
    piece_bytes: int = PIECE_BYTES

    def __post_init__(self) -> None:
        assert self.folder.is_absolute(), f"{self.folder} of {self.link.name} must be absolute"

    @property
    def name(self) -> str:
        return self.link.name

    def facts(self) -> DeviceFacts:
        done = self.run(facts_command(str(self.folder)))
        return read_facts(done.output, self.provenance)

    def run(self, command: str, *, timeout_s: float = 30) -> Finished:
        nonce = new_nonce()
        text = with_marks(command, nonce)
        answer = self._call(text, timeout_s)
        done = read_marks(answer.output, nonce)
        if done is None and self.link.recover(answer.errors):
            answer = self._call(text, timeout_s)
            done = read_marks(answer.output, nonce)
        if done is None:
            raise self._unproved(answer, nonce)
        return done

    def send(
        self,
        source: Path,
        path: PurePosixPath,
        progress: Progress | None = None,
        *,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        delivery = Delivery(source, path, reserve_bytes, self.piece_bytes)
        send_file(self, delivery, progress or (lambda done, total: None))

    def fetch(self, path: PurePosixPath, out: Path) -> None:
        fetch_file(self, path, out)

    def close(self) -> None:
        self.link.close()

    def push(self, source: Path, path: PurePosixPath, *, timeout_s: float) -> None:
        """Copy a file there once, unproved.

        Raises:
            LostDeviceError, RefusedError: as the tool says.
        """
        what = f"{self.name}: writing {path}"
        self._copy(lambda: self.link.push(source, path, timeout_s), what, timeout_s)

    def pull(self, path: PurePosixPath, out: Path, *, timeout_s: float) -> None:
        """Copy a file here once, unproved.

        Raises:
            LostDeviceError, RefusedError: as the tool says.
        """
        what = f"{self.name}: reading {path}"
        self._copy(lambda: self.link.pull(path, out, timeout_s), what, timeout_s)

    def _copy(self, copy: Callable[[], ToolRun], what: str, timeout_s: float) -> None:
        try:
            done = copy()
            if done.status and self.link.recover(done.errors):
                done = copy()
        except ToolTimeoutError:
            raise self._silent(what, timeout_s) from None
        self._check_copy(done, what)

    def _call(self, text: str, timeout_s: float) -> ToolRun:
        try:
            return self.link.call(text, timeout_s)
        except ToolTimeoutError:
            raise self._silent(f"{self.name}: a command", timeout_s) from None

    def _check_copy(self, done: ToolRun, what: str) -> None:
        if done.status == 0:
            return
        refused = self.link.refusal(done.errors)
        if refused is not None:
            raise refused
        # Words of the device's own; without any, the connection broke.
        error = refusal(done.errors, what, done.status)
        raise error if isinstance(error, RefusedError) else self._lost(done.errors)

    def _unproved(self, answer: ToolRun, nonce: str) -> DeviceError:
        """Return the error for a command that nothing shows to have ended."""
        refused = self.link.refusal(answer.errors)
        if refused is not None:
            return refused
        # Where the tool tells a broken connection by its status, any other one is the shell's own.
        by_shell = self.link.broken_status not in (None, answer.status)
        if not has_begun(answer.output, nonce) and (by_shell or answer.output.strip()):
            return noisy_start_error(self.name, answer.output or answer.errors)
        return self._lost(answer.errors)

    def _lost(self, errors: str) -> LostDeviceError:
        said = f" ({errors.strip()[-300:]})" if errors.strip() else ""
        return LostDeviceError(f"{self.name}: the connection broke{said}; {self.link.advice}")

    def _silent(self, what: str, timeout_s: float) -> LostDeviceError:
        return LostDeviceError(
            f"{what}: no answer within {timeout_s:.0f} s; {self.link.advice}, or restart the device"
        )
