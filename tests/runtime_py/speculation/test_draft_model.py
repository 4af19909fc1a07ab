from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketlm.runtime_py.sampling import greedy_id
from pocketlm.runtime_py.session import Session
from pocketlm.runtime_py.speculation.draft_model import DraftModel
from tests.runtime_py.conftest import FakeModel, history_logits

VOCABULARY = 60
ANSWER = [20, 21, 22, 23, 24, 25]


@pytest.fixture
def model() -> FakeModel:
    return FakeModel(VOCABULARY)


@pytest.fixture
def drafter(fake_bundle: Any, model: FakeModel) -> DraftModel:
    manifest = fake_bundle.manifest()
    manifest.model["vocab_size"] = VOCABULARY
    return DraftModel(Session(model, manifest, "onnx"), 0.2, VOCABULARY)


def test_the_likeliest_tokens_are_drafted(drafter: DraftModel, model: FakeModel) -> None:
    model.answers[(2, 10, 11)] = ANSWER
    assert drafter.draft([2, 10, 11], 3) == ANSWER[:3]
    # The last one is only chosen.
    assert model.history == [2, 10, 11, *ANSWER[:2]]


def test_a_draft_ends_before_a_token_that_the_model_is_not_sure_of(
    drafter: DraftModel, model: FakeModel
) -> None:
    model.answers[(2, 10, 11)] = ANSWER[:2]
    assert drafter.draft([2, 10, 11], 6) == ANSWER[:2]


def test_only_what_is_new_is_processed(drafter: DraftModel, model: FakeModel) -> None:
    model.answers[(2, 10, 11)] = ANSWER
    drafter.draft([2, 10, 11], 3)
    model.calls.clear()
    # Two of the three were accepted, and another token came.
    drafter.draft([2, 10, 11, 20, 21, 30], 1)
    assert model.calls == [(5, [30])]


def test_another_text_is_read_from_its_start(drafter: DraftModel, model: FakeModel) -> None:
    drafter.draft(list(range(2, 32)), 1)
    model.calls.clear()
    drafter.draft([2, 50, 51], 1)
    assert model.calls[0] == (0, [2, 50, 51])


def test_a_text_longer_than_its_context_gets_no_draft(drafter: DraftModel) -> None:
    assert drafter.draft([7] * 65, 4) == []
    assert len(drafter.draft([7] * 64, 4)) <= 1


def test_a_draft_that_was_broken_off_is_begun_again(drafter: DraftModel, model: FakeModel) -> None:
    def interrupt(running: Any) -> None:
        if len(running.calls) == 1:
            raise KeyboardInterrupt

    model.answers[(2, 10, 11)] = ANSWER
    model.on_run = interrupt
    with pytest.raises(KeyboardInterrupt):
        drafter.draft([2, 10, 11], 3)
    model.on_run = lambda running: None
    assert drafter.draft([2, 10, 11], 3) == ANSWER[:3]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(texts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=50), max_size=8))
def test_drafts_follow_the_text_whatever_came_before(
    drafter: DraftModel, model: FakeModel, texts: list[list[int]]
) -> None:
    for text in texts:
        model.answers = {tuple(text): [9, 8]}
        found = drafter.draft(text, 2)
        assert found == [9, 8][: len(found)]
        assert found or greedy_id(history_logits(text, VOCABULARY), VOCABULARY) != 9
        assert model.history[: len(text)] == text


def test_closing_releases_the_model(drafter: DraftModel, model: FakeModel) -> None:
    drafter.close()
    assert model.closed


def test_its_price_is_its_own(drafter: DraftModel) -> None:
    assert np.isclose(drafter.price, 0.2)
