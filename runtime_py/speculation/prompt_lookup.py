"""Prompt lookup: what followed the last time that the text ended like this.

Saxena, "Prompt Lookup Decoding", 2023, https://github.com/apoorvumang/prompt-lookup-decoding.
Answers that summarize, edit or quote repeat parts of their prompt, and code repeats itself.
"""

from collections.abc import Sequence

# The last tokens that have to occur earlier. Longer ones are tried first: what follows them is more
# often right.
LONGEST, SHORTEST = 4, 2


class PromptLookup:
    """A drafter that needs no model. It remembers where each run of tokens occurred last."""

    price = 0.0

    def __init__(self) -> None:
        self._tokens: list[int] = []
        # For each run: the place after it, of its last occurrence that something followed.
        self._after: dict[tuple[int, ...], int] = {}

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        """Return what followed the longest run that ends `tokens` and occurred before."""
        self._read(tokens)
        for length in range(min(LONGEST, len(tokens)), SHORTEST - 1, -1):
            place = self._after.get(tuple(tokens[-length:]))
            if place is not None:
                return self._following(place, most)
        return []

    def close(self) -> None:
        """Nothing is held."""

    def _following(self, place: int, most: int) -> list[int]:
        """Return tokens from a place on; a text that repeats itself goes on beyond its end."""
        period = len(self._tokens) - place
        return [self._tokens[place + i % period] for i in range(most)]

    def _read(self, tokens: Sequence[int]) -> None:
        known = len(self._tokens)
        if known > len(tokens) or self._tokens != list(tokens[:known]):
            # Another text, or an earlier one that went on otherwise.
            self._tokens, self._after, known = [], {}, 0
        self._tokens.extend(tokens[known:])
        # A run is noted when a token follows it, so that the end of the text never finds itself.
        for end in range(max(known, 1), len(self._tokens)):
            for length in range(SHORTEST, LONGEST + 1):
                if length <= end:
                    self._after[tuple(self._tokens[end - length : end])] = end
