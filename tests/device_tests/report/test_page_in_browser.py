"""The page in a browser: on a phone, on a desk, and on paper."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pocketlm.device_tests.report.page import render_html
from tests.device_tests.report.page_reports import REPORTS
from tests.device_tests.report.sample_reports import many_phases_report, sample_report
from tests.doubles.tools import advice
from tools import screenshots
from tools.screenshots import Screen, find_browser, main, opened_browser, shown_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGES = {**REPORTS, "many phases": many_phases_report()}
ROOT = Path(__file__).parents[3]
# Of real runs; what the documentation shows.
DOCUMENTED = sorted((ROOT / "docs" / "reports").glob("*.html"))
SCREENS = {"phone": Screen(390, 844), "tablet": Screen(768, 1024), "desk": Screen(1280, 900)}
# Boxes that stick out of the page or of the drawing that they belong to, by more than rounding.
STICKING_OUT = """
Array.from(document.querySelectorAll("body *, .chart text")).filter(found => {
  const box = found.getBoundingClientRect();
  const around = found.ownerSVGElement
    ? found.ownerSVGElement.getBoundingClientRect() : document.body.getBoundingClientRect();
  return box.width > 0 && !found.closest("pattern, .swatch, .bar")
    && (box.left < around.left - 1 || box.right > around.right + 1);
}).map(found => found.tagName + ": " + found.textContent.slice(0, 40))
"""
OVERLAPPING = """
Array.from(document.querySelectorAll(".chart")).flatMap(chart => {
  const texts = Array.from(chart.querySelectorAll("text:not(.watermark)"))
    .map(found => [found.textContent, found.getBoundingClientRect()])
    .filter(([_, box]) => box.width > 0);
  return texts.flatMap(([a, one], i) => texts.slice(i + 1)
    .filter(([_, two]) => one.left < two.right - 1 && two.left < one.right - 1
      && one.top < two.bottom - 4 && two.top < one.bottom - 4)
    .map(([b, _]) => a + " / " + b));
})
"""


def installed_browser() -> str:
    pytest.importorskip("playwright", reason="needs playwright: pip install -e '.[test]'")
    path = find_browser()
    if path is None:
        pytest.skip(advice(["chromium"]))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with opened_browser(installed_browser()) as found:
        yield found


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", PAGES)
def test_the_page_fits_its_screen(
    browser: "Browser", tmp_path: Path, name: str, screen: str
) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(PAGES[name]), encoding="utf-8")
    assert_fits(browser, page, SCREENS[screen])


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("page", DOCUMENTED, ids=lambda page: page.stem)
def test_documented_reports_fit_their_screen(browser: "Browser", page: Path, screen: str) -> None:
    assert "EMULATED" in page.read_text(encoding="utf-8")
    assert_fits(browser, page, SCREENS[screen])


def assert_fits(browser: "Browser", page: Path, screen: Screen) -> None:
    with shown_page(browser, page, screen) as shown:
        root = "document.documentElement"
        assert shown.page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
        assert shown.page.evaluate(f"{root}.clientWidth") == screen.width
        assert shown.page.evaluate(STICKING_OUT) == []
        assert shown.page.evaluate(OVERLAPPING) == []
        assert {url.partition(":")[0] for url in shown.requests} <= {"file", "data"}
        assert [url for url in shown.requests if url.startswith("file")] == [page.as_uri()]


def test_a_script_that_slipped_in_would_not_run(browser: "Browser", tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    html = render_html(sample_report())
    page.write_text(html.replace("</body>", "<script>document.title = 'ran'</script></body>"))
    with shown_page(browser, page, SCREENS["phone"]) as shown:
        assert shown.page.title() == "gemma-3-1b on Pixel 8: ok"


def test_dark_and_light_follow_the_reader(browser: "Browser", tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(sample_report()))
    seen = []
    for dark in (False, True):
        with shown_page(browser, page, Screen(390, 844, dark)) as shown:
            seen.append(shown.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert seen == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]


def test_pictures_are_taken_for_the_documentation(tmp_path: Path) -> None:
    installed_browser()
    source, out = tmp_path / "report.json", tmp_path / "pictures"
    source.write_text(sample_report().to_json())
    # A process of its own: a thread has one of Playwright's loops, and the fixture's is running.
    command = (sys.executable, "-m", "tools.screenshots", str(source), str(out))
    subprocess.run(command, check=True, cwd=ROOT)
    assert {path.name for path in out.iterdir()} == {
        "report.html", "phone-light.png", "phone-dark.png", "desk-light.png", "desk-dark.png",
        "printed.pdf",
    }  # fmt: skip
    assert all(path.stat().st_size > 10_000 for path in out.iterdir())


def test_without_a_browser_the_package_to_install_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screenshots, "find_browser", lambda: None)
    source = tmp_path / "report.json"
    source.write_text(sample_report().to_json())
    assert main([str(source), str(tmp_path / "out")]) == 2
    assert "on Debian: apt-get install chromium" in capsys.readouterr().err


def test_what_is_no_report_takes_no_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "report.json"
    source.write_text("{}")
    assert main([str(source), str(tmp_path / "out")]) == 2
    assert "this is not a report of pocketlm profile" in capsys.readouterr().err
    assert main([]) == 2
