"""Templates are tried before anything is built."""

from pathlib import Path

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.golden_texts import CHATS
from tests.text_variants import TEMPLATE, read, template, variant, write

# One more has a system turn.
EVERY = len(CHATS) + 1
PLAIN = (
    "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
)


def refusing(condition: str) -> str:
    return f"{{% if {condition} %}}{{{{ raise_exception('not so') }}}}{{% endif %}}{PLAIN}"


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("messages | length > 1", 1),
        ("messages[0].role == 'system'", EVERY - 1),
        ("messages[0].role != 'system'", 1),
        ("true", 0),
    ],
)
def test_chats_that_the_template_refuses_are_left_out(
    condition: str, left: int, tmp_path: Path
) -> None:
    text = read(variant(tmp_path / "checkpoint", write(TEMPLATE, refusing(condition))))
    assert len(text.chats) == left
    refused = [note for note in text.notes if "left out of the golden chats: not so" in note]
    assert len(refused) == EVERY - left


BROKEN = {
    "has a syntax error: line 2": "a\n{% if x %}",
    "failed: .* has no attribute 'parts'": "{{ messages[0].content.parts[0].text }}",
    "failed: TypeError": "{{ messages | map(attribute='content') | sum }}",
    "failed: TypeError: no loader": "{% include 'other.jinja' %}",
    "was stopped: not allowed in the sandbox": "{{ ''.__class__ }}",
    "was stopped: OverflowError": "{% for i in range(10 ** 9) %}{% endfor %}",
}


@pytest.mark.parametrize("words", BROKEN)
def test_a_broken_template_ends_the_build(words: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=f"the chat template {words}.*; repair it in the check"):
        read(variant(tmp_path / "checkpoint", write(TEMPLATE, BROKEN[words])))


def test_a_template_that_fails_on_some_chats_keeps_the_others(tmp_path: Path) -> None:
    failing = "{{ messages[0].parts[0] if messages[0].role == 'system' }}" + PLAIN
    text = read(variant(tmp_path / "checkpoint", write(TEMPLATE, failing)))
    assert len(text.chats) == EVERY - 1
    assert "the chat template fails on a chat of system, user" in " ".join(text.notes)


def test_a_template_that_renders_half_of_a_character_is_refused(tmp_path: Path) -> None:
    broken = variant(tmp_path / "checkpoint", write(TEMPLATE, PLAIN + "{{ '\\ud800' }}"))
    with pytest.raises(BuildError, match=r"template failed: it renders \\ud800, half of a char"):
        read(broken)
    on_some = "{% if messages | length > 1 %}{{ '\\ud800' }}{% endif %}"
    kept = read(variant(tmp_path / "another", write(TEMPLATE, PLAIN + on_some)))
    assert len(kept.chats) == 1


def test_a_template_that_leaves_messages_out_is_noted(tmp_path: Path) -> None:
    text = read(variant(tmp_path / "checkpoint", write(TEMPLATE, "hello")))
    assert "leaves out messages: 'What does os.path.join do?' is not" in " ".join(text.notes)


def test_golden_chats_do_not_read_the_clock(tmp_path: Path) -> None:
    dated = template(lambda source: source + "{{ strftime_now('%Y-%m-%d %H:%M:%S.%f') }}")
    text = read(variant(tmp_path / "checkpoint", dated))
    assert text.chats[0].rendered.endswith("2026-01-15 12:00:00.000000")


def test_thinking_is_tried_on_and_off(tmp_path: Path) -> None:
    switch = template(lambda source: source + "{{ 'quick' if enable_thinking is false }}")
    text = read(variant(tmp_path / "checkpoint", switch))
    assert [case.rendered.endswith("quick") for case in text.chats] == [False, True] * EVERY
