"""Pictures of a report's page, for the documentation and for tests of its layout.

    python -m tools.screenshots REPORT.json OUT_FOLDER

Playwright drives the system's own Chromium, without a window.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.report.page import render_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WIDEST_PHONE = 640


@dataclass(frozen=True)
class Screen:
    """What a page is shown on, in CSS pixels."""

    width: int
    height: int
    dark: bool = False


@dataclass(frozen=True)
class ShownPage:
    """A page in a browser, and the addresses that it asked for."""

    page: "Page"
    requests: list[str]


def find_browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


@contextmanager
def opened_browser(path: str) -> Iterator["Browser"]:
    """Run a browser with a profile of its own during the block."""
    from playwright.sync_api import sync_playwright

    # As root, which tests are in containers, Chromium has no sandbox.
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, chromium_sandbox=False)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def shown_page(browser: "Browser", file: Path, screen: Screen) -> Iterator[ShownPage]:
    """Show a file during the block, as a screen of this size does."""
    context = browser.new_context(
        viewport={"width": screen.width, "height": screen.height},
        is_mobile=screen.width < _WIDEST_PHONE,
        color_scheme="dark" if screen.dark else "light",
    )
    try:
        shown = ShownPage(context.new_page(), [])
        shown.page.on("request", lambda request: shown.requests.append(request.url))
        shown.page.goto(file.resolve().as_uri())
        yield shown
    finally:
        context.close()


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
                written.append(out / f"{name}-{'dark' if dark else 'light'}.png")
                with shown_page(browser, page, Screen(width, height, dark)) as shown:
                    shown.page.screenshot(path=written[-1], full_page=True)
        written.append(out / "printed.pdf")
        with shown_page(browser, page, Screen(1280, 900)) as shown:
            shown.page.pdf(path=written[-1], prefer_css_page_size=True)
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
