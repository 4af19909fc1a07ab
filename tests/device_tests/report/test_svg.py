"""SVG elements as text."""

from hypothesis import given
from hypothesis import strategies as st

from pocketlm.device_tests.report import svg
from pocketlm.runtime_py.terminal import printable_line


def test_text_and_attributes_are_escaped_and_elements_are_not() -> None:
    inner = svg.element("title", {}, "a < b")
    assert svg.element("g", {"id": '"><script>'}, inner, "&") == (
        '<g id="&#34;&gt;&lt;script&gt;"><title>a &lt; b</title>&amp;</g>'
    )


def test_numbers_are_short() -> None:
    assert [svg.number(n) for n in (3.0, 2.04, 1 / 3, -0.5)] == ["3", "2", "0.3", "-0.5"]


@given(st.text(min_size=1, max_size=60), st.floats(40, 200), st.booleans())
def test_fitted_text_is_not_wider_than_its_room(text: str, room: float, bold: bool) -> None:
    found = svg.fitted(text, room, 13, bold)
    assert svg.text_width(found, 13, bold) <= room
    assert found.endswith("…") or found == printable_line(text)


def test_text_with_room_is_whole() -> None:
    assert svg.fitted("packed weights", 200, 13) == "packed weights"
    assert svg.fitted("packed weights", 60, 13) == "packed…"
