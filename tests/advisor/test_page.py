"""The page of an advice: what it says and shows, and what it must not do."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from pocketlm.advisor.advice import Advice, Compared
from pocketlm.advisor.candidates import Candidate
from pocketlm.advisor.limits import DeviceMemory
from pocketlm.advisor.page import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, axes, points, render_html
from pocketlm.advisor.task import Sources, Task
from tests.advisor.conftest import record_of


def compared(recipe: str, megabytes: int, **changes: object) -> Compared:
    candidate = Candidate(recipe, None, "onnx")
    sources = Sources("checkpoint", "a", "text", "b")
    record = record_of(Task(candidate, sources, False, None, 40, None, recipe, "bundle"))
    memory = DeviceMemory(1_000_000 * megabytes, 1_000_000 * megabytes)
    found = Compared(
        candidate.name, recipe, None, "onnx", False, "lost", "why", False, memory, record
    )
    return replace(found, **changes)  # type: ignore[arg-type]


ADVICE = Advice(
    "./gemma",
    "book.txt",
    40,
    "the rule",
    (
        compared("int4-g32", 100),
        compared("int4-g32-head8", 200, is_dominated=True),
        compared("int8-channel", 300, status="chosen", reason=""),
        replace(compared("none", 900), status="does not fit", reason="needs much", record=None),
    ),
    "pocketlm build ./gemma",
    None,
)


class Page(HTMLParser):
    """The texts of a page and its circles; every tag must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.open, self.circles = "", list[str](), list[dict[str, str | None]]()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img")
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "circle":
            self.circles.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_candidate_that_was_measured_is_in_the_plot_and_the_table() -> None:
    page = Page(render_html(ADVICE))
    assert [circle["class"] for circle in page.circles] == ["other", "dominated", "chosen"]
    for one in ADVICE.measured:
        assert page.text.count(one.name) >= 2
    assert "none on onnx: does not fit: needs much" in page.text
    assert "take int8-channel on onnx" in page.text
    assert "the rule" in page.text and "pocketlm build ./gemma" in page.text


def test_the_page_needs_no_network_and_suits_dark_screens() -> None:
    html = render_html(ADVICE)
    assert "default-src 'none'" in html and "prefers-color-scheme: dark" in html
    assert not re.search(r"https?://|<script|@import|url\(", html)


def test_what_names_say_is_escaped() -> None:
    hostile = "<script>alert('x')</script>\x1b[31m"
    candidates = tuple(replace(one, name=hostile, reason=hostile) for one in ADVICE.candidates)
    html = render_html(replace(ADVICE, candidates=candidates, checkpoint=hostile, text=hostile))
    assert "<script" not in html and "\x1b" not in html
    Page(html)


def test_memory_goes_right_and_divergence_up() -> None:
    measured = ADVICE.measured
    found = {point.label: point for point in points(measured, *axes(measured))}
    small, large = found["int4-g32 on onnx"], found["int8-channel on onnx"]
    assert small.x < large.x and small.y < large.y
    for point in found.values():
        assert LEFT < point.x < WIDTH - RIGHT and 0 < point.y < HEIGHT
    heights = sorted(point.label_y for point in found.values())
    assert all(b - a >= 14 for a, b in pairwise(heights))


@pytest.mark.parametrize("count", [1, 2, 20])
def test_candidates_that_are_equal_have_a_page_too(count: int) -> None:
    same = tuple(compared("int8-channel", 300) for _ in range(count))
    page = Page(render_html(replace(ADVICE, candidates=same, build_command=None, remedy="none")))
    assert len(page.circles) == count
    heights = [point.label_y for point in points(same, *axes(same))]
    assert all(0 < height <= HEIGHT - BOTTOM for height in heights)
    assert all(b - a >= 14 for a, b in pairwise(heights))


def test_nothing_lost_is_on_the_scale_too() -> None:
    one = compared("none", 900)
    assert one.record is not None and one.record.evaluation.kl_nats is not None
    kl = replace(one.record.evaluation.kl_nats, mean=0.0)
    record = replace(one.record, evaluation=replace(one.record.evaluation, kl_nats=kl))
    Page(render_html(replace(ADVICE, candidates=(*ADVICE.candidates, replace(one, record=record)))))
