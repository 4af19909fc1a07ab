"""Drafts by a smaller model with the same tokenizer (Leviathan et al., arXiv 2211.17192)."""

from collections.abc import Sequence

import numpy as np

from pocketlm.runtime_py.sampling import greedy_id
from pocketlm.runtime_py.session import Logits, Session

# A draft ends before a token that the smaller model itself holds for less likely than this.
LEAST_PROBABILITY = 0.4


class DraftModel:
    """A drafter over a session of its own, which follows the text that it is given.

    Args:
        price: of a decode step of this model, in those of the model that checks.
        limit: ids at or beyond it are never drafted.
    """

    def __init__(self, session: Session, price: float, limit: int) -> None:
        self.price = price
        self._session = session
        self._limit = limit
        self._held: list[int] = []

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        """Return the likeliest tokens one after the other, as long as the model is sure of them."""
        if len(tokens) > self._session.context_length:
            return []
        logits = self._follow(tokens)
        drafts: list[int] = []
        for _ in range(1 + self._session.most_taken_back(most - 1)):
            token = greedy_id(logits, self._limit)
            if _probability(logits, token) < LEAST_PROBABILITY:
                break
            drafts.append(token)
            if len(drafts) == most:
                break
            logits = self._session.decode(token)
            self._held.append(token)
        return drafts

    def close(self) -> None:
        """Release the model's memory."""
        self._session.close()

    def _follow(self, tokens: Sequence[int]) -> Logits:
        """Bring the session to the end of a text; return the logits after it."""
        pairs = zip(self._held, tokens[:-1], strict=False)
        same = next((i for i, (old, new) in enumerate(pairs) if old != new), None)
        if same is None:
            # At least one token must be processed to have logits.
            same = min(len(self._held), len(tokens) - 1)
        # A call may have been broken off before all of what is noted was processed.
        same = min(same, self._session.position)
        if same < self._session.position or self._session.needs_reset:
            if self._session.rewind_error(same) is not None:
                same = 0
            self._session.rewind(same)
        self._held = list(tokens)
        return self._session.prefill(tokens[same:])


def _probability(logits: Logits, token: int) -> float:
    return float(1 / np.exp(logits - logits[token]).sum())
