"""The page: what it says, and what it must not do."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pocketlm.device_tests.device.facts import EMULATED, Provenance
from pocketlm.device_tests.memory.values import AndroidAccount, Sample
from pocketlm.device_tests.profiling.document import AnswerDifference, Report
from pocketlm.device_tests.report.page import render_html
from tests.device_tests.report.page_reports import REPORTS
from tests.device_tests.report.sample_reports import (
    failed_report,
    folios_report,
    hostile_report,
    sample_report,
    wrong_report,
)

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Tags, their attributes and the text of a page; every tag must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)


PAGES = {
    **REPORTS,
    "not sampled": replace(sample_report(), samples=()),
    "no phases": replace(sample_report(), phases=()),
}


@pytest.fixture(params=PAGES.values(), ids=PAGES.keys())
def report(request: pytest.FixtureRequest) -> Report:
    found: Report = request.param
    return found


def test_every_report_is_a_whole_page(report: Report) -> None:
    html = render_html(report)
    page = Page(html)
    html.encode("utf-8")
    assert page.tags[0] == ("html", {"lang": "en"})
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {(attributes["href"] or "")[1:] for tag, attributes in page.tags if tag == "a"}
    assert links <= set(ids)


def test_nothing_is_loaded_and_nothing_runs(report: Report) -> None:
    for tag, attributes in Page(render_html(report)).tags:
        assert tag not in {"script", "img", "iframe", "object", "embed", "form"}
        assert not any(name.startswith("on") or name in {"src", "style"} for name in attributes)
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))
    assert "@import" not in render_html(report)


def test_drawings_are_well_formed_and_described(report: Report) -> None:
    drawings = re.findall(r"<svg .*?</svg>", render_html(report), re.DOTALL)
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        if root.get("role") == "img":
            named = [child.get("id") for child in root if child.tag in {"title", "desc"}]
            assert root.get("aria-labelledby") == " ".join(filter(None, named))
        else:
            assert root.get("aria-hidden") == "true"


def test_tables_have_captions_and_scopes(report: Report) -> None:
    page = Page(render_html(report))
    names = [tag for tag, _ in page.tags]
    assert names.count("table") == names.count("caption")
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")


def test_what_a_device_says_of_itself_is_only_text() -> None:
    html = render_html(hostile_report())
    assert "<script" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    page = Page(html)
    assert "<script>alert('x')</script>" in page.text
    assert "{{ 7*7 }}" in page.text  # a template does not run what it shows


def test_the_page_says_where_every_megabyte_went() -> None:
    text = Page(render_html(sample_report())).text
    for words in ("packed weights", "386.9", "388.2", "+1.3", "+0.3 %", "unattributed", "1,042.3",
                  "26 layers × 26.8 M parameters", "peak 1.04 GB", "MemAvailable",
                  "18.2 tokens/s", "2.86 s", "all agree", "Pixel 8", "KleidiAI"):  # fmt: skip
        assert words in text


def test_the_page_says_why_clean_lines_are_not_judged() -> None:
    text = Page(render_html(folios_report())).text
    assert "Clean lines above their prediction do not count: Linux 6.18.44 maps whole" in text
    assert "folios" not in Page(render_html(sample_report())).text


def test_the_page_has_androids_own_account_as_far_as_it_goes() -> None:
    old = replace(sample_report(), android=AndroidAccount(5 * 10**6, None, None, 0))
    assert "Android counts PSS 5.0 MB, GPU 0 B" in Page(render_html(old)).text


def test_differences_are_listed_by_step() -> None:
    text = Page(render_html(wrong_report())).text
    assert "code (chat) 7 19 greedy token ' def' (1063) ' class' (998)" in text


@pytest.mark.parametrize("provenance", EMULATED)
def test_an_emulated_run_shows_its_stamp_and_no_time(provenance: Provenance) -> None:
    text = Page(render_html(sample_report(provenance))).text
    assert "tokens/s" not in text
    assert not re.search(r"\d\s?(ms|s|seconds)\b", text)
    assert "2.86" not in text and "18.2" not in text
    assert "times are emulated, not shown" in text
    assert "EMULATED" in text
    assert {"qemu-system": "memory is the guest kernel's own", "qemu-user": "memory is inflated"}[
        provenance
    ] in text


def test_a_real_run_has_no_stamp() -> None:
    assert "EMULATED" not in Page(render_html(sample_report())).text


def test_a_run_that_never_began_says_why_and_what_to_do() -> None:
    text = Page(render_html(failed_report())).text
    assert "unauthorized" in text
    assert "accept the question it shows" in text
    assert not re.search(r"\b(nan|none)\b", text, re.IGNORECASE)


def test_a_device_that_says_little_is_shown_with_what_it_says() -> None:
    bare = replace(
        sample_report(),
        samples=tuple(Sample(0.5 * i, 1000 * i) for i in range(10)),
        phases=(),
        device=replace(sample_report().device, ram_bytes=0, cpu_features=(), oom_score_adj=None),
    )
    text = Page(render_html(bare)).text
    assert "MemAvailable 2" not in text
    assert "peak" in text


def test_many_differences_are_cut_and_counted() -> None:
    report = wrong_report()
    assert report.answers is not None
    many = tuple(AnswerDifference("c", i, i, "token", "a", f"found {i}.") for i in range(130))
    text = Page(
        render_html(replace(report, answers=replace(report.answers, differences=many)))
    ).text
    assert "found 99." in text and "found 100." not in text
    assert "And 30 more" in text


def test_a_page_of_a_long_run_stays_small() -> None:
    # An hour at 20 samples a second; a mail server takes it still.
    assert len(render_html(sample_report(samples=72_000))) < 1_000_000
