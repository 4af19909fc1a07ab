"""How far a build is and how long it will take, from events and a clock."""

from collections.abc import Mapping

# A stage that says little moves with its expected time, but is never done before it says so.
_MOST_UNSAID = 0.95
# With this many steps a stage says enough.
_MANY_STEPS = 10


class BuildClock:
    """Stages with expected seconds, corrected by the pace of those that are done.

    Times are seconds of any one clock.

    Args:
        expected_s: of each stage, in order; only ratios count.
    """

    def __init__(self, expected_s: Mapping[str, float]) -> None:
        self.expected_s = dict(expected_s)
        self.name = ""
        self._begun = 0.0
        self._reported = 0.0
        self._says_enough = False
        self._done_s = self._spent_s = 0.0
        self._shown = 0.0

    def start(self, name: str, now: float) -> None:
        """Begin a stage."""
        self.name, self._begun = name, now
        self._reported, self._says_enough = 0.0, False

    def advance(self, done: int, total: int) -> None:
        """Note what the stage says of itself: steps or bytes."""
        self._reported = max(self._reported, min(done / total, 1.0) if total else 1.0)
        self._says_enough = total >= _MANY_STEPS

    def finish(self, now: float) -> None:
        """End the stage that was begun."""
        self._spent_s += now - self._begun
        self._done_s += self.expected_s[self.name]
        self.name = ""

    def take_over(self, name: str) -> None:
        """Leave out a stage that an earlier run finished."""
        del self.expected_s[name]

    def fraction(self, now: float) -> float:
        """Return the share of the whole build that is done; never less than before."""
        total = sum(self.expected_s.values())
        done = self._worked_s(now) / total if total else 1.0
        self._shown = max(self._shown, done)
        return self._shown

    def remaining_s(self, now: float) -> float:
        """Return the seconds to the end at the pace so far."""
        worked_s = self._worked_s(now)
        spent_s = self._spent_s + (now - self._begun if self.name else 0.0)
        pace = spent_s / worked_s if worked_s else 1.0
        return pace * (sum(self.expected_s.values()) - worked_s)

    def _worked_s(self, now: float) -> float:
        """Return the expected seconds of what is done."""
        if not self.name:
            return self._done_s
        expected_s = self.expected_s[self.name]
        if self._says_enough:
            return self._done_s + expected_s * self._reported
        pace = self._spent_s / self._done_s if self._spent_s and self._done_s else 1.0
        unsaid = min(_MOST_UNSAID, (now - self._begun) / (expected_s * pace))
        return self._done_s + expected_s * max(self._reported, unsaid)
