"""The cases of golden answers: which tokens are fed, and what the eager model answered."""

from dataclasses import dataclass

from pocketlm.runtime_py.logits_digest import LogitsDigest
from pocketlm.runtime_py.typed_json import FieldError


@dataclass(frozen=True)
class GoldenCase:
    """A prompt, what is fed after it, and what the eager quantized model chose at each step.

    Greedy is the largest logit among ids that the tokenizer has (`sampling.greedy_id`); a stop id
    does not end it.

    Attributes:
        margins: for each id of the continuation, how far its logit is above the second largest,
            in units of that row's std.
        logits: digests of some or all rows that chose the continuation.
        forced_ids: tokens that are fed after the prompt in place of the continuation, one fewer
            than it has; empty where each choice is fed back.
        tied_ids: for each step the other ids whose logits are within twice the tolerance of the
            largest, so that rounding may choose them; None where they are too many to say.
        exact: digests of some rows of the same model without rounded activations; empty where
            nothing rounds them.
    """

    name: str
    prompt_ids: tuple[int, ...]
    continuation_ids: tuple[int, ...]
    margins: tuple[float, ...]
    logits: tuple[LogitsDigest, ...]
    forced_ids: tuple[int, ...] = ()
    tied_ids: tuple[tuple[int, ...] | None, ...] = ()
    exact: tuple[LogitsDigest, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt_ids or not self.continuation_ids:
            raise FieldError(f"case {self.name!r} needs a prompt and a continuation")
        steps = len(self.continuation_ids)
        if len(self.margins) != steps:
            raise FieldError(
                f"case {self.name!r}: {len(self.margins)} margins for {steps} continuation_ids"
            )
        if self.forced_ids and len(self.forced_ids) != steps - 1:
            raise FieldError(
                f"case {self.name!r}: {len(self.forced_ids)} forced_ids for {steps} "
                "continuation_ids; one fewer is needed"
            )
        if self.tied_ids and len(self.tied_ids) != steps:
            raise FieldError(
                f"case {self.name!r}: {len(self.tied_ids)} tied_ids for {steps} continuation_ids"
            )
        first = len(self.prompt_ids) - 1
        last = first + steps - 1
        for digest in (*self.logits, *self.exact):
            if not first <= digest.position <= last:
                raise FieldError(
                    f"case {self.name!r}: digest of position {digest.position} is outside "
                    f"{first} to {last}"
                )

    @property
    def fed_ids(self) -> tuple[int, ...]:
        """The tokens fed after the prompt: each gives the row of the next step."""
        return self.forced_ids or self.continuation_ids[:-1]

    def digest(self, step: int, *, exact: bool = False) -> LogitsDigest | None:
        """Return the digest of the row that chose continuation id `step`, if recorded."""
        return _at(self.exact if exact else self.logits, len(self.prompt_ids) - 1 + step)

    def may_choose(self, step: int, token: int) -> bool:
        """Say whether rounding alone may make `token` the greedy choice of a step."""
        tied = self.tied_ids[step] if self.tied_ids else ()
        return tied is None or token == self.continuation_ids[step] or token in tied


@dataclass(frozen=True)
class PlacedCall:
    """Tokens of one call of an artifact: the first stands at `position`."""

    position: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class PlacedCase:
    """Tokens at chosen positions of caches that hold zeros wherever no token was placed.

    So the end of a long context, the wrap of a ring and the edge of a window cost only the tokens
    placed there. A slot of zeros is seen as any other: its score is 0 and its value is 0.

    Attributes:
        calls: positions ascend. Only from an empty cache: a slot that a ring uses twice must have
            had its first token from this case.
        logits, exact: digests of the rows after some calls, as in `GoldenCase`.
    """

    name: str
    calls: tuple[PlacedCall, ...]
    logits: tuple[LogitsDigest, ...]
    exact: tuple[LogitsDigest, ...] = ()

    def __post_init__(self) -> None:
        end = 0
        for call in self.calls:
            if not call.ids or call.position < end:
                raise FieldError(
                    f"case {self.name!r}: a call of {len(call.ids)} tokens at position "
                    f"{call.position} after position {end - 1}; calls have tokens and ascend"
                )
            end = call.position + len(call.ids)
        rows = {call.position + len(call.ids) - 1 for call in self.calls}
        for digest in (*self.logits, *self.exact):
            if digest.position not in rows:
                raise FieldError(
                    f"case {self.name!r}: digest of position {digest.position}, where no call ends"
                )

    @property
    def has_gaps(self) -> bool:
        """Whether slots of zeros are seen, so that the caches must be cleared before."""
        end = 0
        for call in self.calls:
            if call.position != end:
                return True
            end += len(call.ids)
        return False

    def digest(self, call: PlacedCall, *, exact: bool = False) -> LogitsDigest | None:
        """Return the digest of the row after a call, if recorded."""
        return _at(self.exact if exact else self.logits, call.position + len(call.ids) - 1)


def _at(digests: tuple[LogitsDigest, ...], position: int) -> LogitsDigest | None:
    return next((digest for digest in digests if digest.position == position), None)
