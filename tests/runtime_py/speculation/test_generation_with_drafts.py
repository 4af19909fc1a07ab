"""Answers with drafts are those without, whatever the drafts are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.generation import GenerationRequest, GenerationResult, generate
from pocketlm.runtime_py.sampling import SamplingOptions
from pocketlm.runtime_py.session import Session, open_session
from pocketlm.runtime_py.speculation.prompt_lookup import PromptLookup
from pocketlm.runtime_py.tokenizer import Tokenizer

END = 5
GREEDY, DRAWN = SamplingOptions(), SamplingOptions(temperature=1.0, top_k=4, seed=7)
PROMPT = [2, 10, 11, 12]


class Scripted:
    """Drafts what a test wants, and keeps what it was asked."""

    price = 0.0

    def __init__(self, drafts: Sequence[Sequence[int]]) -> None:
        self.drafts = [list(draft) for draft in drafts]
        self.asked: list[tuple[list[int], int]] = []

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        self.asked.append((list(tokens), most))
        return self.drafts.pop(0)[:most] if self.drafts else []

    def close(self) -> None:
        pass


@pytest.fixture
def session(fake_bundle: Any) -> Session:
    return open_session(fake_bundle.open(), "onnx")


def plain(
    session: Session, tokenizer: Tokenizer, options: SamplingOptions, most: int | None
) -> GenerationResult:
    session.reset()
    request = GenerationRequest(options, (1, END), max_new_tokens=most)
    generation = generate(session, tokenizer, PROMPT, request)
    for _ in generation:
        pass
    return generation.result


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data(), most=st.one_of(st.none(), st.integers(1, 60)))
@pytest.mark.parametrize("options", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_no_draft_changes_an_answer(
    session: Session,
    tokenizer: Tokenizer,
    fake_bundle: Any,
    options: SamplingOptions,
    most: int | None,
    data: st.DataObject,
) -> None:
    expected = plain(session, tokenizer, options, most)
    after, history = session.position, list(fake_bundle.model.history)
    # Some drafts are the answer's own tokens, others are not.
    tokens = st.one_of(st.sampled_from(expected.tokens), st.integers(0, tokenizer.size - 1))
    starts = st.integers(0, len(expected.tokens))
    own = starts.map(lambda start: list(expected.tokens[start : start + 3]))
    drafts = data.draw(st.lists(st.one_of(own, st.lists(tokens, max_size=3)), max_size=40))
    session.reset()
    request = GenerationRequest(options, (1, END), most, drafter=Scripted(drafts))
    generation = generate(session, tokenizer, PROMPT, request)
    pieces = list(generation)
    found = generation.result
    assert [piece.token for piece in pieces if piece.token is not None] == list(found.tokens)
    assert (found.tokens, found.text, found.reason) == (
        expected.tokens,
        expected.text,
        expected.reason,
    )
    # What was guessed and not accepted is taken back.
    assert session.position == after
    assert fake_bundle.model.history[:after] == history
    assert found.decode_steps == expected.decode_steps
    assert found.decode_calls + found.accepted_tokens == expected.decode_steps


def test_accepted_drafts_are_fewer_calls(
    session: Session, tokenizer: Tokenizer, fake_bundle: Any
) -> None:
    told = tokenizer.encode("hello hello hello hello hello")
    fake_bundle.model.answers[tuple(PROMPT)] = [*told, END]
    request = GenerationRequest(GREEDY, (1, END), drafter=PromptLookup())
    generation = generate(session, tokenizer, PROMPT, request)
    assert "".join(piece.text for piece in generation) == "hello hello hello hello hello"
    result = generation.result
    assert result.accepted_tokens == 4
    assert result.decode_calls == result.decode_steps - result.accepted_tokens


def test_no_more_is_guessed_than_the_answer_may_have(
    session: Session, tokenizer: Tokenizer
) -> None:
    for most, asked in ((1, []), (2, []), (3, [1]), (4, [2, 1])):
        drafter = Scripted([])
        request = GenerationRequest(GREEDY, (), max_new_tokens=most, drafter=drafter)
        session.reset()
        list(generate(session, tokenizer, PROMPT, request))
        assert [count for _, count in drafter.asked] == asked


def test_a_call_whose_drafts_could_not_be_taken_back_has_none(
    session: Session, tokenizer: Tokenizer
) -> None:
    # The rings have 11 slots for a window of 8: three tokens more than the window can go back.
    session.prefill([7] * 20)
    assert session.draft_tokens() == 2
    session.reset()
    session.prefill([7] * 63)
    assert session.draft_tokens() == 0


def test_an_answer_that_is_left_in_the_middle_takes_its_drafts_back(
    session: Session, tokenizer: Tokenizer
) -> None:
    expected = plain(session, tokenizer, GREEDY, 8).tokens
    session.reset()
    drafter = Scripted([expected[1:3]])
    request = GenerationRequest(GREEDY, (), max_new_tokens=8, drafter=drafter)
    generation = generate(session, tokenizer, PROMPT, request)
    pieces = iter(generation)
    for _ in range(2):
        next(pieces)
    assert session.position == len(PROMPT) + 3
    generation.close()
    assert session.position == len(PROMPT) + 1
    assert np.array_equal(session.check(expected[1:2])[0], _row(session, [*PROMPT, *expected[:2]]))


def _row(session: Session, tokens: Sequence[int]) -> Any:
    session.reset()
    return session.prefill(tokens)


def test_a_closed_session_ends_an_answer_quietly(session: Session, tokenizer: Tokenizer) -> None:
    expected = plain(session, tokenizer, GREEDY, 8).tokens
    session.reset()
    request = GenerationRequest(GREEDY, (), 8, drafter=Scripted([expected[1:3]]))
    generation = generate(session, tokenizer, PROMPT, request)
    pieces = iter(generation)
    for _ in range(2):
        next(pieces)
    session.close()
    generation.close()
    assert generation.result.tokens == expected[:2]


def test_more_tokens_than_there_are_rows_cannot_be_checked(session: Session) -> None:
    with pytest.raises(RunError) as caught:
        session.check([7, 8, 9, 10])
    assert str(caught.value) == (
        "check of 4 tokens: the artifact gives logits after each of at most 3; give fewer, or "
        "build with a larger --logits-rows"
    )
    assert session.position == 0


def test_counts_are_part_of_the_result(session: Session, tokenizer: Tokenizer) -> None:
    expected = plain(session, tokenizer, GREEDY, 6)
    session.reset()
    right, wrong = expected.tokens[1:3], [expected.tokens[4], 399]
    drafter = Scripted([right, wrong])
    request = GenerationRequest(GREEDY, (1, END), 6, drafter=drafter)
    generation = generate(session, tokenizer, PROMPT, request)
    list(generation)
    found = generation.result
    assert (found.drafted_tokens, found.accepted_tokens, found.decode_calls) == (3, 3, 2)
    assert (
        replace(
            expected,
            decode_calls=found.decode_calls,
            drafted_tokens=3,
            accepted_tokens=3,
            prefill_s=found.prefill_s,
            decode_s=found.decode_s,
        )
        == found
    )
