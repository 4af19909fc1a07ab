from collections.abc import Callable
from typing import Any

import pytest

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.generation import GenerationRequest, GenerationResult, Piece, generate
from pocketlm.runtime_py.sampling import SamplingOptions
from pocketlm.runtime_py.session import Session, open_session
from pocketlm.runtime_py.tokenizer import Tokenizer

GREEDY = SamplingOptions()
END = 5
Answer = Callable[..., tuple[list[Piece], GenerationResult]]


@pytest.fixture
def session(fake_bundle: Any) -> Session:
    return open_session(fake_bundle.open(), "onnx")


@pytest.fixture
def answer(fake_bundle: Any, session: Session, tokenizer: Tokenizer) -> Answer:
    """Generate after the prompt "ab"; the model is scripted to say `text` and then to stop."""

    def make(text: str = "hello €.", **changes: Any) -> tuple[list[Piece], GenerationResult]:
        prompt = tokenizer.encode_prompt("ab")
        fake_bundle.model.answers[tuple(prompt)] = [*tokenizer.encode(text), END]
        request = GenerationRequest(**{"options": GREEDY, "stop_ids": (1, END), **changes})
        generation = generate(session, tokenizer, prompt, request)
        return list(generation), generation.result

    return make


def test_an_answer_ends_at_a_stop_id_which_is_no_part_of_it(
    answer: Answer, session: Session, tokenizer: Tokenizer
) -> None:
    pieces, result = answer()
    assert "".join(piece.text for piece in pieces) == result.text == "hello €."
    assert list(result.tokens) == tokenizer.encode("hello €.")
    assert [piece.token for piece in pieces] == list(result.tokens)
    assert result.reason == "stop"
    assert result.prompt_tokens == 3
    # The stop id was drawn, and never processed.
    assert result.decode_steps == len(result.tokens)
    assert session.position == 3 + len(result.tokens)


def test_the_last_allowed_token_is_not_processed(answer: Answer, session: Session) -> None:
    _, result = answer(max_new_tokens=1)
    assert result.text == "hello"
    assert result.reason == "length"
    assert result.decode_steps == 0
    assert result.decode_tokens_per_s is None
    assert session.position == 3


def test_without_a_limit_the_context_is_used_up(answer: Answer, session: Session) -> None:
    _, result = answer("a" * 100)
    assert result.reason == "context"
    assert session.position == session.context_length == 64
    # 61 positions after the prompt, and one token that needs none.
    assert len(result.tokens) == 62


def test_a_full_context_is_an_error_before_anything_is_generated(
    session: Session, tokenizer: Tokenizer
) -> None:
    session.prefill([7] * 64)
    with pytest.raises(RunError, match="context full: 1 tokens asked for at position 64 of 64"):
        generate(session, tokenizer, [7], GenerationRequest(GREEDY, ()))


def test_half_a_character_at_the_end_is_flushed(answer: Answer) -> None:
    pieces, result = answer("🙂", max_new_tokens=2)
    assert [piece.text for piece in pieces] == ["", "", "\ufffd\ufffd"]
    assert pieces[-1].token is None
    assert len(result.tokens) == 2
    assert result.text == "\ufffd\ufffd"


def test_ids_without_a_token_are_never_generated(
    fake_bundle: Any, answer: Answer, tokenizer: Tokenizer
) -> None:
    def prefer_padding(model: Any, logits: Any) -> Any:
        logits[tokenizer.size] = 99
        return logits

    fake_bundle.model.disturb = prefer_padding
    assert answer()[1].text == "hello €."


def test_timings_add_up(answer: Answer) -> None:
    _, result = answer()
    assert result.prefill_s > 0
    assert result.prefill_tokens_per_s == 3 / result.prefill_s
    assert result.decode_tokens_per_s == result.decode_steps / result.decode_s


def ctrl_c_at_run(number: int) -> Callable[[Any], None]:
    def interrupt(model: Any) -> None:
        if len(model.calls) == number:
            raise KeyboardInterrupt

    return interrupt


def test_ctrl_c_ends_an_answer_with_what_there_is(fake_bundle: Any, answer: Answer) -> None:
    fake_bundle.model.on_run = ctrl_c_at_run(2)
    _, result = answer("abcdef")
    assert result.reason == "interrupted"
    assert result.text == "ab"


def test_ctrl_c_during_the_prompt_ends_with_nothing(fake_bundle: Any, answer: Answer) -> None:
    fake_bundle.model.on_run = ctrl_c_at_run(0)
    pieces, result = answer()
    assert (pieces, result.tokens, result.reason) == ([], (), "interrupted")


def test_a_caller_that_stops_listening_has_interrupted(
    fake_bundle: Any, session: Session, tokenizer: Tokenizer
) -> None:
    generation = generate(session, tokenizer, [2, 3], GenerationRequest(GREEDY, ()))
    next(iter(generation))
    assert generation.result.reason == "interrupted"
    assert len(generation.result.tokens) == 1


def test_a_request_to_stop_is_heard_between_steps(answer: Answer, session: Session) -> None:
    asked: list[int] = []

    def stop_after_three() -> bool:
        asked.append(1)
        return len(asked) > 3

    _, result = answer("abcdef", should_stop=stop_after_three)
    assert result.reason == "interrupted"
    # One question before the only chunk of the prompt, then one after each token.
    assert result.text == "abc"
    assert not session.needs_reset


def test_a_request_to_stop_is_heard_between_chunks(
    fake_bundle: Any, session: Session, tokenizer: Tokenizer
) -> None:
    request = GenerationRequest(GREEDY, (), should_stop=lambda: len(fake_bundle.model.calls) == 2)
    generation = generate(session, tokenizer, [2] * 20, request)
    assert list(generation) == []
    assert generation.result.prompt_tokens == session.position == 8


def test_the_repetition_penalty_sees_prompt_answer_and_what_came_before(
    fake_bundle: Any, session: Session, tokenizer: Tokenizer
) -> None:
    letters = tokenizer.encode("abcd")

    def prefer_letters(model: Any, logits: Any) -> Any:
        logits[:] = 0
        logits[letters] = [9, 8, 7, 6]
        return logits

    fake_bundle.model.disturb = prefer_letters
    options = SamplingOptions(repetition_penalty=100)
    request = GenerationRequest(options, (), max_new_tokens=2, seen=(letters[0],))
    generation = generate(session, tokenizer, [letters[1]], request)
    assert [piece.text for piece in generation] == ["c", "d"]


def test_equal_seeds_give_equal_answers(session: Session, tokenizer: Tokenizer) -> None:
    answers = []
    for seed in (1, 1, 2):
        session.reset()
        options = SamplingOptions(temperature=1, seed=seed)
        generation = generate(session, tokenizer, [2], GenerationRequest(options, (), 20))
        list(generation)
        answers.append(generation.result.tokens)
    assert answers[0] == answers[1] != answers[2]


def test_at_least_one_token_must_be_asked_for() -> None:
    with pytest.raises(RunError, match="max_new_tokens=0: must be at least 1"):
        GenerationRequest(GREEDY, (), 0)
