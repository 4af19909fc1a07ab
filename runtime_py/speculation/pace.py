"""How many tokens are worth guessing, from how many of the last guesses were right.

A rule on counts alone, not on times: the same text is computed in the same calls every time.
"""

# What checking one more token adds to a call, in decode steps. Measured at the shape of Gemma 3 1B:
# 0.08 to 0.16 on two runtimes for up to eight tokens.
CHECK_PRICE = 0.12
# Guesses that are believed before any was checked: right, and wrong.
_PRIOR = (2.0, 1.0)
# What older guesses count less with each new call.
_DECAY = 0.9
# Tokens without a guess where none pays; each time twice as many, up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 8, 256


class Pace:
    """Chooses the length of the next draft.

    Args:
        price: of guessing a token, in decode steps.
    """

    def __init__(self, price: float) -> None:
        self._price = price + CHECK_PRICE
        self._right, self._wrong = _PRIOR
        self._pause = _FIRST_PAUSE
        self._waiting = 0

    def length(self, most: int) -> int:
        """Return how many tokens to guess, 0 to `most`. Called once for each call of the model."""
        if self._waiting:
            self._waiting -= 1
            return 0
        chance = self._right / (self._right + self._wrong)
        best = max(range(most + 1), key=lambda n: self._tokens_per_step(n, chance))
        if best == 0 and most:
            self._waiting = self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            # What comes then may be another kind of text.
            self._right, self._wrong = _PRIOR
        return best

    def learn(self, drafted: int, accepted: int) -> None:
        """Note what became of a draft; tokens behind the first wrong one say nothing."""
        self._right = _DECAY * self._right + accepted
        self._wrong = _DECAY * self._wrong + (accepted < drafted)
        if accepted == drafted:
            self._pause = _FIRST_PAUSE

    def _tokens_per_step(self, drafted: int, chance: float) -> float:
        """Return tokens that a call is expected to give, for each decode step that it costs."""
        expected = sum(chance**i for i in range(drafted + 1))
        return expected / (1 + self._price * drafted)
