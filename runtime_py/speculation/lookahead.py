"""Rows of logits one after the other, of which some are computed ahead of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pocketlm.runtime_py.session import Logits, Session
from pocketlm.runtime_py.speculation.drafter import Drafter
from pocketlm.runtime_py.speculation.pace import Pace


@dataclass
class DraftCounts:
    """What became of guesses.

    Attributes:
        calls: of the model.
        drafted: tokens that were guessed.
        accepted: those of them that were the answer's.
    """

    calls: int = 0
    drafted: int = 0
    accepted: int = 0


@dataclass
class Lookahead:
    """One answer's calls of the model.

    Attributes:
        drafter: None guesses nothing.
        counts: so far.
    """

    session: Session
    drafter: Drafter | None
    counts: DraftCounts = field(default_factory=DraftCounts)
    _pace: Pace = field(init=False)
    _ahead: list[tuple[int, Logits]] = field(default_factory=list)
    _drafted: int = 0

    def __post_init__(self) -> None:
        self._pace = Pace(self.drafter.price if self.drafter else 0.0)

    @property
    def position(self) -> int:
        """Tokens that are in the caches for good."""
        return self.session.position - len(self._ahead)

    def next(self, tokens: Sequence[int], most: int) -> Logits:
        """Process the last of all tokens so far; return the logits after it.

        Args:
            tokens: prompt and answer; the last one is not in the caches yet, or was guessed.
            most: tokens that may be guessed behind it.
        """
        if self._ahead:
            guess, row = self._ahead[0]
            if guess == tokens[-1]:
                del self._ahead[0]
                self.counts.accepted += 1
                return row
            self.settle()
        drafts = self._guess(tokens, most)
        first, *rest = self.session.check([tokens[-1], *drafts])
        self.counts.calls += 1
        self.counts.drafted += len(drafts)
        self._drafted = len(drafts)
        self._ahead = list(zip(drafts, rest, strict=True))
        return first

    def settle(self) -> None:
        """Take back from the caches what was guessed and not accepted."""
        if self._ahead and not self.session.is_closed:
            self.session.rewind(self.position)
        if self._drafted:
            self._pace.learn(self._drafted, self._drafted - len(self._ahead))
        self._ahead, self._drafted = [], 0

    def _guess(self, tokens: Sequence[int], most: int) -> list[int]:
        self.settle()
        if self.drafter is None:
            return []
        length = self._pace.length(min(most, self.session.draft_tokens()))
        return self.drafter.draft(tokens, length) if length else []
