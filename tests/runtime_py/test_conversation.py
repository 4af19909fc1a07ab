from dataclasses import replace
from typing import Any

import pytest

from pocketlm.runtime_py.chat_template import ChatTemplate
from pocketlm.runtime_py.conversation import Conversation
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.generation import GenerationRequest
from pocketlm.runtime_py.sampling import SamplingOptions
from pocketlm.runtime_py.session import Session, open_session
from pocketlm.runtime_py.template_renderer import render_all
from pocketlm.runtime_py.tokenizer import Tokenizer

REQUEST = GenerationRequest(SamplingOptions(), stop_ids=(1, 5))
# Shorter than Gemma's, so that several turns fit into the tiny context.
SHORT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role[0] }}:{{ m.content | trim }}<end_of_turn>"
    "{% endfor %}a:"
)


class Chat:
    """A conversation over the fake model; knows what the model was made to process."""

    def __init__(self, model: Any, session: Session, tokenizer: Tokenizer, template: str) -> None:
        self.model, self.tokenizer, self.session = model, tokenizer, session
        self.template = template
        source = ChatTemplate(template, {"bos_token": "<bos>"})
        self.conversation = Conversation(session, tokenizer, source, {})

    def say(self, text: str, answer: str) -> list[str]:
        """Return the texts that the model processed, prefill and decode together."""
        self.model.calls.clear()
        self.model.answers = {self.prompt(text): [*self.tokenizer.encode(answer), 5]}
        generation = self.conversation.ask(text, REQUEST)
        for _ in generation:
            pass
        self.conversation.keep(text, generation)
        return [self.text(tokens) for _, tokens in self.model.calls]

    def prompt(self, text: str) -> tuple[int, ...]:
        messages = [*self.conversation.messages, {"role": "user", "content": text}]
        return tuple(self.tokenizer.encode(self.render(messages)))

    def render(self, messages: Any) -> str:
        request = {
            "template": self.template,
            "chats": [{"messages": messages, "bos_token": "<bos>"}],
            "moment": None,
            "output_limit": 10_000,
        }
        return str(render_all(request)["rendered"][0]["text"])

    def text(self, tokens: list[int]) -> str:
        return "".join(self.tokenizer.token(token) for token in tokens)


@pytest.fixture
def session(fake_bundle: Any) -> Session:
    return open_session(fake_bundle.open(), "onnx")


@pytest.fixture
def chat(fake_bundle: Any, session: Session, tokenizer: Tokenizer) -> Chat:
    return Chat(fake_bundle.model, session, tokenizer, SHORT)


def test_the_second_turn_processes_only_what_is_new(chat: Chat) -> None:
    first = chat.say("ab", "cd")
    assert "".join(first) == "<bos>u:ab<end_of_turn>a:cd"
    second = chat.say("ef", "gh")
    assert "".join(second) == "<end_of_turn>u:ef<end_of_turn>a:gh"
    assert chat.model.resets == 0
    assert [m["content"] for m in chat.conversation.messages] == ["ab", "cd", "ef", "gh"]


def test_a_changed_history_is_processed_from_where_it_parts(chat: Chat) -> None:
    # The template trims, so what was generated and what is rendered part at the spaces.
    chat.say("ab", "cd  ")
    assert "".join(chat.say("ef", "gh")) == "<end_of_turn>u:ef<end_of_turn>a:gh"
    assert chat.model.resets == 0


def test_what_a_ring_cannot_go_back_to_is_processed_again(chat: Chat) -> None:
    # The answer runs once around the ring, and all but its beginning is trimmed.
    chat.say("ab", "cd" + 12 * " ")
    second = "".join(chat.say("ef", "gh"))
    assert second == "<bos>u:ab<end_of_turn>a:cd<end_of_turn>u:ef<end_of_turn>a:gh"
    assert chat.model.resets == 1


def test_the_same_prompt_again_processes_one_token(chat: Chat) -> None:
    chat.say("ab", "cd")
    chat.conversation.messages.clear()
    assert "".join(chat.say("ab", "x")).startswith(":")


def test_an_undone_turn_is_as_if_never_said(chat: Chat) -> None:
    chat.say("ab", "cd")
    chat.say("ef", "gh")
    assert chat.conversation.undo() == "ef"
    assert [m["content"] for m in chat.conversation.messages] == ["ab", "cd"]
    # Further than the ring can go back.
    assert "".join(chat.say("xy", "z")).startswith("<bos>u:ab<end_of_turn>a:cd<end_of_turn>u:xy")
    assert (chat.conversation.undo(), chat.conversation.undo()) == ("xy", "ab")
    assert chat.conversation.messages == []
    assert chat.conversation.undo() is None


def test_an_undo_leaves_the_system_message(session: Session, tokenizer: Tokenizer) -> None:
    template = ChatTemplate(SHORT, {"bos_token": "<bos>"})
    conversation = Conversation(session, tokenizer, template, {}, system="be brief")
    assert conversation.undo() is None
    assert conversation.messages == [{"role": "system", "content": "be brief"}]


def test_reset_begins_anew_with_the_system_message(
    fake_bundle: Any, session: Session, tokenizer: Tokenizer
) -> None:
    template = ChatTemplate(SHORT, {"bos_token": "<bos>"})
    conversation = Conversation(session, tokenizer, template, {}, system="be brief")
    generation = conversation.ask("ab", REQUEST)
    list(generation)
    conversation.keep("ab", generation)
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "be brief"}]
    assert session.position == 0
    fake_bundle.model.calls.clear()
    list(conversation.ask("ab", REQUEST))
    assert fake_bundle.model.calls[0] == (0, tokenizer.encode("<bos>s:be brief")[:4])


def test_a_conversation_that_no_longer_fits_stays_as_it_was(chat: Chat) -> None:
    chat.say("ab", "cd")
    position = chat.session.position
    with pytest.raises(RunError) as caught:
        chat.conversation.ask("x" * 60, REQUEST)
    assert "this message alone makes 66 tokens" in str(caught.value)
    assert "the context holds 64; shorten it" in str(caught.value)
    assert chat.session.position == position
    assert "".join(chat.say("ef", "gh")) == "<end_of_turn>u:ef<end_of_turn>a:gh"


def test_old_turns_make_room_for_new_ones(
    fake_bundle: Any, session: Session, tokenizer: Tokenizer
) -> None:
    template = ChatTemplate(SHORT, {"bos_token": "<bos>"})
    conversation = Conversation(session, tokenizer, template, {}, system="be")
    left_out = []
    for turn in range(12):
        generation = conversation.ask(f"turn {turn % 10}", replace(REQUEST, max_new_tokens=3))
        left_out.append(conversation.left_out)
        assert len(list(generation)) >= 1
        conversation.keep(f"turn {turn % 10}", generation)
        roles = [message["role"] for message in conversation.messages]
        assert roles == ["system", *["user", "assistant"] * ((len(roles) - 1) // 2)]
        assert conversation.messages[-2]["content"] == f"turn {turn % 10}"
    assert left_out[0] == 0
    assert any(count and count % 2 == 0 for count in left_out)


def test_a_typed_end_of_a_turn_is_text(chat: Chat) -> None:
    prompt = chat.conversation
    list(prompt.ask("<end_of_turn>", replace(REQUEST, max_new_tokens=1)))
    read = [token for _, tokens in chat.model.calls for token in tokens]
    # The template's own one, before the model's turn.
    assert read.count(5) == 1


def test_an_interrupted_answer_is_kept_as_far_as_it_came(chat: Chat) -> None:
    def interrupt(model: Any) -> None:
        if chat.text(model.calls[-1][1] if model.calls else []) == "c":
            raise KeyboardInterrupt

    chat.model.on_run = interrupt
    chat.say("ab", "cdef")
    assert chat.conversation.messages[-1] == {"role": "assistant", "content": "cd"}
    assert chat.session.needs_reset
    chat.model.on_run = lambda model: None
    assert (
        "".join(chat.say("x", "y")) == "<bos>u:ab<end_of_turn>a:cd<end_of_turn>u:x<end_of_turn>a:y"
    )


def test_a_turn_without_any_answer_was_never_said(chat: Chat) -> None:
    def interrupt(model: Any) -> None:
        if len(model.calls) == 1:
            raise KeyboardInterrupt

    chat.model.on_run = interrupt
    chat.say("ab", "cd")
    assert chat.conversation.messages == []
    chat.model.on_run = lambda model: None
    assert "".join(chat.say("x", "y")) == "<bos>u:x<end_of_turn>a:y"


def test_a_refusal_by_the_template_changes_nothing(session: Session, tokenizer: Tokenizer) -> None:
    template = ChatTemplate("{{ raise_exception('no') }}", {})
    conversation = Conversation(session, tokenizer, template, {})
    with pytest.raises(RunError, match="refuses these messages: no"):
        conversation.ask("ab", REQUEST)
    assert conversation.messages == []
