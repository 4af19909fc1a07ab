"""generate(): prompt ids → tokens and their text, until something ends them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.sampling import Sampler, SamplingOptions
from pocketlm.runtime_py.session import Logits, Session
from pocketlm.runtime_py.speculation.drafter import Drafter
from pocketlm.runtime_py.speculation.lookahead import Lookahead
from pocketlm.runtime_py.tokenizer import Tokenizer

StopReason = Literal["stop", "length", "context", "interrupted"]


def never() -> bool:
    """Ask for no interruption."""
    return False


@dataclass(frozen=True)
class GenerationRequest:
    """How an answer is chosen and what ends it.

    Attributes:
        stop_ids: any of these ends the answer and is not part of it.
        max_new_tokens: None is as many as the context has room for.
        seen: tokens that stand before the prompt in the session; for the repetition penalty.
        should_stop: asked between steps; True ends the answer as Ctrl-C does.
        drafter: guesses tokens, so that one call gives several; each is chosen as without it.
    """

    options: SamplingOptions
    stop_ids: tuple[int, ...]
    max_new_tokens: int | None = None
    seen: tuple[int, ...] = ()
    should_stop: Callable[[], bool] = never
    drafter: Drafter | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise RunError(f"max_new_tokens={self.max_new_tokens}: must be at least 1")


@dataclass(frozen=True)
class Piece:
    """One token and the text that it made sure; None is no token, only text that waited."""

    token: int | None
    text: str


@dataclass(frozen=True)
class GenerationResult:
    """What was generated, why it ended, and how long it took.

    Attributes:
        prompt_tokens: processed by this call.
        reason: "stop" by a stop id, "length" by max_new_tokens, "context" by the end of the
            context, or "interrupted".
        decode_steps: tokens processed after the prompt; the first token of an answer needs none.
        decode_calls: of the model for them; fewer where drafts were accepted.
        drafted_tokens, accepted_tokens: that were guessed, and those of them that were right.
    """

    prompt_tokens: int
    tokens: tuple[int, ...]
    text: str
    reason: StopReason
    prefill_s: float
    decode_steps: int
    decode_s: float
    decode_calls: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prefill_tokens_per_s(self) -> float | None:
        return self.prompt_tokens / self.prefill_s if self.prefill_s > 0 else None

    @property
    def decode_tokens_per_s(self) -> float | None:
        return self.decode_steps / self.decode_s if self.decode_s > 0 else None


class Generation:
    """One answer: iterate over its pieces, then read `result`. Made by `generate`."""

    def __init__(
        self,
        session: Session,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        request: GenerationRequest,
    ) -> None:
        self._session = session
        self._request = request
        self._chunks = session.chunks(prompt_ids)
        self._lookahead = Lookahead(session, request.drafter)
        self._sampler = Sampler(request.options, min(tokenizer.size, session.vocab_size))
        self._stream = tokenizer.stream()
        self._seen = [*request.seen, *prompt_ids]
        self._tokens: list[int] = []
        self._text: list[str] = []
        # What stands here if the caller stops iterating.
        self._reason: StopReason = "interrupted"
        self._prompt_tokens = self._decode_steps = 0
        self._prefill_s = self._decode_s = 0.0

    @property
    def result(self) -> GenerationResult:
        """What there is so far."""
        return GenerationResult(
            prompt_tokens=self._prompt_tokens,
            tokens=tuple(self._tokens),
            text="".join(self._text),
            reason=self._reason,
            prefill_s=self._prefill_s,
            decode_steps=self._decode_steps,
            decode_s=self._decode_s,
            decode_calls=self._lookahead.counts.calls,
            drafted_tokens=self._lookahead.counts.drafted,
            accepted_tokens=self._lookahead.counts.accepted,
        )

    def close(self) -> None:
        """End the answer here, also where its pieces were not all read."""
        self._lookahead.settle()

    def __iter__(self) -> Iterator[Piece]:
        try:
            for token in self._sampled():
                yield self._piece(token, self._stream.push(token))
        except KeyboardInterrupt:
            self._reason = "interrupted"
        finally:
            self._lookahead.settle()
        waiting = self._stream.flush()
        if waiting:
            yield self._piece(None, waiting)

    def _sampled(self) -> Iterator[int]:
        request, session = self._request, self._session
        logits = self._prefill()
        while logits is not None:
            token = self._sampler.choose(logits, self._seen)
            if token in request.stop_ids:
                self._reason = "stop"
                return
            self._tokens.append(token)
            self._seen.append(token)
            yield token
            if request.should_stop():
                return
            if len(self._tokens) == request.max_new_tokens:
                self._reason = "length"
                return
            if self._lookahead.position == session.context_length:
                self._reason = "context"
                return
            logits = self._decode()

    def _prefill(self) -> Logits | None:
        logits = None
        for chunk in self._chunks:
            if self._request.should_stop():
                return None
            start = perf_counter()
            logits = self._session.prefill(chunk)
            self._prefill_s += perf_counter() - start
            self._prompt_tokens += len(chunk)
        return logits

    def _decode(self) -> Logits:
        """Process the answer's last token."""
        start = perf_counter()
        logits = self._lookahead.next(self._seen, self._most_drafts())
        self._decode_s += perf_counter() - start
        self._decode_steps += 1
        return logits

    def _most_drafts(self) -> int:
        """Return how many tokens behind the next one could still be part of the answer."""
        most, room = self._request.max_new_tokens, self._session.context_length
        left = room if most is None else most - len(self._tokens)
        return max(0, left - 1)

    def _piece(self, token: int | None, text: str) -> Piece:
        self._text.append(text)
        return Piece(token, text)


def generate(
    session: Session,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    request: GenerationRequest,
) -> Generation:
    """Prepare an answer to a prompt; it is made while the returned value is iterated over.

    The session stays where the answer ends: its last token is not processed, and a stop id never
    is.

    Raises:
        RunError: the prompt is empty, holds unknown ids, or does not fit into the context;
            nothing has been processed then.
    """
    return Generation(session, tokenizer, prompt_ids, request)
