"""Pictures of a report's page, for the documentation and for tests of its layout.

    python -m tools.screenshots REPORT.json OUT_FOLDER

Drives a Chromium without a window over two pipes (its DevTools protocol), which needs no package.
"""

import base64
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.report.page import render_html

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe", "about:blank",
)  # fmt: skip
_TIMEOUT_S = 60.0


def find_browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


class Browser:
    """One tab of a browser.

    Attributes:
        requests: addresses that pages asked for.
    """

    def __init__(self, out: int, answers: int) -> None:
        self.requests: list[str] = []
        self._out = out
        self._answers = answers
        self._unread = b""
        self._sent = 0
        self._loaded = False
        self._session = ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:
        """Send a command of the protocol and return its result.

        Raises:
            DeviceError: the browser refuses it, goes away, or does not answer in time.
        """
        self._sent += 1
        command: dict[str, Any] = {"id": self._sent, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        while True:
            message = self._receive(method)
            if message.get("id") == self._sent:
                if "error" in message:
                    raise DeviceError(f"the browser refuses {method}: {message['error']}")
                return message["result"]

    def show(self, page: Path, width: int, height: int, dark: bool = False) -> None:
        """Open a page as a screen of this size shows it."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 640,
        )  # fmt: skip
        self._loaded = False
        self.send("Page.navigate", url=page.resolve().as_uri())
        while not self._loaded:
            self._receive("the page's load")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which works where the page forbids it."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def screenshot(self, out: Path) -> None:
        """Write the whole page as a PNG."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, out: Path) -> None:
        """Write the page as it is printed."""
        printed = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        out.write_bytes(base64.b64decode(printed["data"]))

    def _receive(self, what: str) -> dict[str, Any]:
        deadline = time.monotonic() + _TIMEOUT_S
        while b"\0" not in self._unread:
            ready, _, _ = select([self._answers], [], [], max(deadline - time.monotonic(), 0))
            read = os.read(self._answers, 1 << 20) if ready else b""
            if not read:
                why = "went away" if ready else f"did not answer within {_TIMEOUT_S:.0f} s"
                raise DeviceError(f"waiting for {what}: the browser {why}; try again")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        return message


@contextmanager
def opened_browser(path: str) -> Iterator[Browser]:
    """Start a browser with a profile of its own; end it and all its processes after the block."""
    with tempfile.TemporaryDirectory(prefix="pocketlm-browser-", ignore_cleanup_errors=True) as own:
        commands, out = os.pipe()
        answers, results = os.pipe()
        # The browser reads from 3 and writes to 4; ours must not stand there.
        for_browser = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (commands, results)]
        quiet = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
        moved = [(os.POSIX_SPAWN_DUP2, end, 3 + i) for i, end in enumerate(for_browser)]
        process = os.posix_spawn(
            path, [path, f"--user-data-dir={own}", *_ARGUMENTS], os.environ,
            file_actions=[quiet, *moved], setsid=True,
        )  # fmt: skip
        for end in (commands, results, *for_browser):
            os.close(end)
        try:
            yield Browser(out, answers)
        finally:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(out)
            os.close(answers)


def take_screenshots(report: Report, out: Path) -> list[Path]:
    """Write the page of a report, and pictures of it on a desk and on a phone, light and dark.

    Raises:
        DeviceError: there is no browser.
    """
    path = find_browser()
    if path is None:
        raise DeviceError("screenshots need a browser; on Debian: apt-get install chromium")
    out.mkdir(parents=True, exist_ok=True)
    page = out / "report.html"
    page.write_text(render_html(report), encoding="utf-8")
    written = []
    with opened_browser(path) as browser:
        for name, width, height in (("phone", 390, 844), ("desk", 1280, 900)):
            for dark in (False, True):
                browser.show(page, width, height, dark)
                written.append(out / f"{name}-{'dark' if dark else 'light'}.png")
                browser.screenshot(written[-1])
        written.append(out / "printed.pdf")
        browser.pdf(written[-1])
    return written


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m tools.screenshots REPORT.json OUT_FOLDER\n")
        return 2
    source, out = map(Path, arguments)
    try:
        take_screenshots(Report.from_json(source.read_text(encoding="utf-8"), source.name), out)
    except DeviceError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
