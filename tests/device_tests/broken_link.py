"""A link to this machine that fails as tests say."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pocketlm.device_tests.device.external_tool import ToolRun, ToolTimeoutError
from pocketlm.device_tests.device.shell_target import ShellTarget
from pocketlm.device_tests.device.target import RefusedError
from pocketlm.device_tests.device.targets.host import HostLink
from pocketlm.device_tests.errors import DeviceError

# What happens instead of a call, or None: it goes through. "call", "push" or "pull", with its text
# or its path.
Fault = Callable[[str, str], ToolRun | None]

BROKEN = ToolRun(1, "", "couldn't read from device")


class BrokenLink(HostLink):
    """This machine, behind a connection that can break.

    Attributes:
        fault: asked before each call.
        calls: what was asked for, in order.
    """

    name = "broken"
    advice = "mend it"

    def __init__(self, fault: Fault = lambda kind, what: None) -> None:
        self.fault = fault
        self.calls: list[tuple[str, str]] = []

    def call(self, text: str, timeout_s: float) -> ToolRun:
        return self._instead("call", text) or super().call(text, timeout_s)

    def push(self, source: Path, path: PurePosixPath, timeout_s: float) -> ToolRun:
        return self._instead("push", str(path)) or super().push(source, path, timeout_s)

    def pull(self, path: PurePosixPath, out: Path, timeout_s: float) -> ToolRun:
        return self._instead("pull", str(path)) or super().pull(path, out, timeout_s)

    def refusal(self, errors: str) -> DeviceError | None:
        return RefusedError(f"{self.name}: {errors}", "unauthorized") if "auth" in errors else None

    def count(self, kind: str, part: str = "") -> int:
        """Return how often something was asked for."""
        return sum(asked == kind and part in what for asked, what in self.calls)

    def _instead(self, kind: str, what: str) -> ToolRun | None:
        self.calls.append((kind, what))
        return self.fault(kind, what)


class Times:
    """A fault that happens at some of the calls that it is for.

    Attributes:
        numbers: of those calls, from 1.
    """

    def __init__(
        self, kind: str, part: str, numbers: range | set[int], fault: ToolRun | None = BROKEN
    ) -> None:
        self.kind, self.part, self.numbers, self.fault = kind, part, numbers, fault
        self.seen = 0

    def __call__(self, kind: str, what: str) -> ToolRun | None:
        if kind != self.kind or self.part not in what:
            return None
        self.seen += 1
        if self.seen not in self.numbers:
            return None
        if self.fault is None:
            raise ToolTimeoutError
        return self.fault


def broken_target(folder: Path, link: BrokenLink, piece_bytes: int = 1000) -> ShellTarget:
    """Return a target with everything of ours in a folder."""
    return ShellTarget(link, PurePosixPath(folder), "host", piece_bytes)
