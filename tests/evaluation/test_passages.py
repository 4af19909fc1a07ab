"""Texts and conversations as passages: every token once, and what cannot be one is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.evaluation.passages import (
    Passage,
    chat_passages,
    limited,
    read_chats,
    text_passages,
)
from pocketlm.evaluation.result import pieces
from pocketlm.evaluation.source import Source
from pocketlm.evaluation.subject import Subject, checkpoint_subject
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.tokenizer import Tokenizer
from pocketlm.runtime_py.tokenizer_library import LibraryTokenizer
from tests.conftest import PICO

TEXT = "".join(f"Line {number}: def f(x): return x + {number}\n" for number in range(120))


CHAT = [
    {"role": "user", "content": "What is a list?"},
    {"role": "assistant", "content": "A list is a sequence."},
]


@pytest.fixture(scope="module")
def pico() -> Subject:
    return checkpoint_subject(str(PICO))


@pytest.mark.parametrize("window", [2, 7, 64, 4096])
def test_a_text_is_cut_into_windows_and_no_token_is_lost(pico: Subject, window: int) -> None:
    passages = text_passages(TEXT, pico.tokenizer, window)
    bos, *ids = pico.tokenizer.encode_prompt(TEXT)
    assert [token for passage in passages for token in passage.targets] == ids
    assert all(passage.ids[0] == bos and len(passage.ids) <= window for passage in passages)


def test_without_bos_the_first_token_of_a_passage_is_not_measured(
    tiny_checkpoint: Callable[[str], Path],
) -> None:
    qwen = checkpoint_subject(str(tiny_checkpoint("qwen3")))
    assert qwen.tokenizer.bos_id is None
    (passage,) = text_passages("one two three", qwen.tokenizer, 64)
    assert passage.places == tuple(range(1, len(passage.ids)))


@given(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8, unique=True), max_size=6),
    st.integers(1, 60),
)
def test_a_limit_keeps_the_first_tokens(places: list[list[int]], most: int) -> None:
    passages = [Passage(tuple(range(40)), tuple(sorted(each))) for each in places]
    found = limited(passages, most)
    targets = [target for passage in passages for target in passage.targets]
    assert [target for passage in found for target in passage.targets] == targets[:most]
    # Nothing is read that nothing measured comes after.
    assert all(passage.places[-1] == len(passage.ids) - 1 for passage in found)


def test_of_a_conversation_the_assistants_turns_are_measured(pico: Subject) -> None:
    messages = [
        {"role": "user", "content": "What is a list?"},
        {"role": "assistant", "content": "A list is a sequence."},
        {"role": "user", "content": "And a tuple?"},
        {"role": "assistant", "content": "A tuple never changes."},
    ]
    assert pico.template is not None
    (passage,) = chat_passages([messages], pico.template, pico.tokenizer, 512)
    measured = pico.tokenizer.decode(passage.targets)
    assert "A list is a sequence." in measured and "A tuple never changes." in measured
    assert "What" not in measured and "And" not in measured
    # The model must also end its turn.
    assert pico.tokenizer.id_of("<end_of_turn>") in passage.targets


def test_a_long_conversation_is_cut_at_its_end(pico: Subject) -> None:
    messages = [
        {"role": "user", "content": "Say it."},
        {"role": "assistant", "content": "it " * 200},
    ]
    assert pico.template is not None
    (passage,) = chat_passages([messages], pico.template, pico.tokenizer, 64)
    assert len(passage.ids) == 64 and passage.places[-1] == 63


def test_a_conversation_without_an_answer_is_refused(pico: Subject) -> None:
    assert pico.template is not None
    asked = [[{"role": "user", "content": "Hello"}]]
    with pytest.raises(RunError, match="no conversation has an assistant's turn"):
        chat_passages(asked, pico.template, pico.tokenizer, 64)


def test_a_conversation_that_the_template_refuses_is_named(pico: Subject) -> None:
    assert pico.template is not None
    twice = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    fine = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(RunError, match="--chats: conversation 2: the chat template refuses it: "):
        chat_passages([fine, twice], pico.template, pico.tokenizer, 64)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "empty; give a JSON object with messages in each line"),
        (['{"messages": ['], "line 1: not JSON"),
        (['{"messages": [{"role": "user", "content": "x"}]}', "[]"], 'line 2: needs "messages"'),
        (['{"messages": [{"role": 1, "content": "x"}]}'], 'line 1: needs "messages"'),
        (['{"messages": [{"role": "user", "content": null}]}'], 'line 1: needs "messages"'),
        (['{"messages": [{"role": "user", "content": "\\ud800"}]}'], "half of a character"),
    ],
)
def test_a_line_that_is_no_conversation_is_named(
    lines: list[str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(RunError, match=message):
        read_chats(path)


def test_conversations_are_read_line_by_line(tmp_path: Path) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
    path = tmp_path / "chats.jsonl"
    path.write_text(f"{json.dumps({'messages': messages})}\n\n" * 2)
    assert read_chats(path) == [messages, messages]


def test_a_text_that_wraps_no_ring_is_refused_unless_so_few_tokens_are_asked_for(
    pico: Subject,
) -> None:
    source = Source("two words")
    with pytest.raises(RunError, match=r"so no ring buffer wraps; give a longer text, or --tokens"):
        source.passages(pico, None, None)
    assert len(source.passages(pico, None, 2)) == 1


def test_an_empty_text_is_refused(pico: Subject) -> None:
    with pytest.raises(RunError, match="the text is empty"):
        Source("").passages(pico, None, None)


def test_a_window_longer_than_the_context_is_refused(pico: Subject) -> None:
    with pytest.raises(RunError, match=rf"--window 9999999: .* takes {pico.longest} tokens"):
        Source(TEXT).passages(pico, 9_999_999, None)


def test_another_tokenizer_is_refused(
    pico: Subject, tiny_checkpoint: Callable[[str], Path]
) -> None:
    qwen = checkpoint_subject(str(tiny_checkpoint("qwen3")))
    source = Source(TEXT)
    passages = source.passages(pico, 64, None)
    with pytest.raises(RunError, match="its tokenizer reads the text otherwise, from token 0 of"):
        source.require_same_tokens(pico, qwen, passages, 64)
    source.require_same_tokens(pico, pico, passages, 64)


def test_of_conversations_the_control_tokens_are_compared_too(pico: Subject) -> None:
    class Exchanged(Tokenizer):
        """Reads text alike, and ends turns with another token."""

        def encode(self, text: str) -> list[int]:
            end = self.id_of("<end_of_turn>")
            return [3 if token == end else token for token in super().encode(text)]

    library = LibraryTokenizer.from_file(PICO / "tokenizer.json")
    other = replace(pico, tokenizer=Exchanged(library, pico.tokenizer.bos_id))
    source = Source(None, [CHAT])
    passages = source.passages(pico, None, None)
    with pytest.raises(RunError, match="reads the text otherwise"):
        source.require_same_tokens(pico, other, passages, None)


@pytest.mark.parametrize("window", [2, 3, 4, 16, 512])
@pytest.mark.parametrize(
    "text", ["漢字🙂é" * 12, "é🙂漢字 mixed text 语言 " * 9, "plain words " * 20]
)
def test_every_byte_of_a_text_is_the_text_of_one_token(
    pico: Subject, text: str, window: int
) -> None:
    found = pieces(pico.tokenizer, text_passages(text, pico.tokenizer, window))
    assert "".join(piece for passage in found for piece in passage) == text


def test_without_bos_the_text_of_tokens_that_are_not_measured_is_left_out(
    tiny_checkpoint: Callable[[str], Path],
) -> None:
    qwen = checkpoint_subject(str(tiny_checkpoint("qwen3"))).tokenizer
    text = "漢字🙂é one two " * 9
    found = pieces(qwen, text_passages(text, qwen, 7))
    shown = "".join(piece for passage in found for piece in passage)
    assert "\ufffd" not in shown and 0.5 * len(text) < len(shown) < len(text)


def test_a_limit_keeps_whether_a_passage_goes_on(pico: Subject) -> None:
    passages = text_passages(TEXT, pico.tokenizer, 16)
    assert [passage.goes_on for passage in limited(passages, 40)] == [False, True, True]


def test_turns_beyond_the_window_are_said(pico: Subject) -> None:
    assert pico.template is not None
    long = [{"role": "user", "content": "it " * 200}, CHAT[1]]
    with pytest.raises(RunError, match="every assistant's turn comes after 64 tokens"):
        chat_passages([long], pico.template, pico.tokenizer, 64)
