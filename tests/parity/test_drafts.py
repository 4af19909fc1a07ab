"""With real caches: tokens that were guessed, checked and taken back leave no trace."""

from collections.abc import Sequence

import numpy as np
import pytest

from pocketlm.runtime_py.session import Session
from pocketlm.runtime_py.speculation.lookahead import Lookahead
from tests.artifacts import (
    CONTEXT,
    LOGITS_ROWS,
    Build,
    Lowered,
    lowered_executorch,
    lowered_onnx,
    random_tokens,
)
from tests.parity_cases import ONNX_KINDS

PROMPT = 4


class Half:
    """Drafts the tokens of an answer that is known, each wrong with a chance of a third."""

    price = 0.0

    def __init__(self, answer: Sequence[int]) -> None:
        self.answer = list(answer)
        self.random = np.random.default_rng(0)

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        following = self.answer[len(tokens) : len(tokens) + most]
        wrong = self.random.random(len(following)) < 1 / 3
        return [(t + 1) % 512 if w else t for t, w in zip(following, wrong, strict=True)]

    def close(self) -> None:
        pass


def artifacts() -> list[tuple[str, str]]:
    families = ("gemma3_text", "gemma2", "qwen3")
    return [*((family, "executorch") for family in families), *ONNX_KINDS]


def lowered(family: str, kind: str) -> Lowered:
    if kind == "executorch":
        return lowered_executorch(family, "none")
    return lowered_onnx(Build(family, "none", kind))


def rows_of(session: Session, lookahead: Lookahead, tokens: list[int]) -> np.ndarray:
    """Feed a text token by token; return the row after each, and leave no guess behind."""
    session.reset()
    session.prefill(tokens[:PROMPT])
    rows = [
        lookahead.next(tokens[: end + 1], len(tokens) - end - 1)
        for end in range(PROMPT, len(tokens))
    ]
    lookahead.settle()
    return np.stack(rows)


@pytest.mark.parametrize(("family", "kind"), artifacts())
def test_rows_with_drafts_are_those_without_past_three_wraps(family: str, kind: str) -> None:
    built = lowered(family, kind)
    session = Session(built.load(), built.manifest, built.backend)
    tokens = random_tokens(CONTEXT, seed=5)
    expected = rows_of(session, Lookahead(session, None), tokens)
    lookahead = Lookahead(session, Half(tokens))
    found = rows_of(session, lookahead, tokens)
    # float32 in another order, as wherever calls have other lengths.
    assert np.abs(found - expected).max() < 2e-5 * expected.std()
    assert session.position == CONTEXT
    counts = lookahead.counts
    assert counts.accepted < counts.drafted
    assert counts.calls + counts.accepted == CONTEXT - PROMPT
    # Most calls have a guess: only few would compact a cache.
    assert counts.drafted > (CONTEXT - PROMPT) // LOGITS_ROWS
