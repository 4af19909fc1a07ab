"""verify(): hold an artifact against its golden answers and name every difference.

Knows nothing of how the answers were made.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from runtime_py.bundle import Bundle
from runtime_py.chat_template import ChatTemplate, read_chat_template
from runtime_py.errors import RunError
from runtime_py.golden import Golden
from runtime_py.golden_cases import GoldenCase
from runtime_py.session import Session, open_session
from runtime_py.tokenizer import Tokenizer, read_tokenizer

Replay = Literal["in chunks", "token by token", "after reset"]
# (steps done, steps in all, what)
Advance = Callable[[int, int, str], None]

# A prompt longer than this is fed token by token only if no other case is shorter.
_LONGEST_BY_TOKEN = 512


def silent(done: int, total: int, what: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Answer:
    """What an artifact answered in one step.

    Attributes:
        greedy_id: largest logit among the ids that the tokenizer has.
        error_std: of the logits against the recorded digest, in units of its std; 0 where none was
            recorded.
    """

    greedy_id: int
    error_std: float


@dataclass(frozen=True)
class Mismatch:
    """One difference.

    Attributes:
        check: "tokenizer", "chat", "stop ids", "activations", "attention", "greedy id" or
            "logits".
        case, step, position: where; None where that has no meaning.
    """

    check: str
    case: str
    step: int | None
    position: int | None
    expected: str
    found: str


@dataclass(frozen=True)
class CaseVerdict:
    """One case, replayed in one way."""

    name: str
    replay: Replay
    steps: int
    near_ties: int
    max_logit_error_std: float
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """What verify found.

    Attributes:
        tolerance_std: largest error that a logit may have, in units of its row's std.
        near_ties: steps where another id won whose logit the tolerance cannot tell apart.
    """

    bundle: str
    backend: str
    tolerance_std: float
    tokenizer_cases: int
    chat_cases: int
    cases: tuple[CaseVerdict, ...]
    mismatches: tuple[Mismatch, ...]

    @property
    def passed(self) -> bool:
        return not self.mismatches

    @property
    def near_ties(self) -> int:
        return sum(case.near_ties for case in self.cases)

    @property
    def max_logit_error_std(self) -> float:
        return max((case.max_logit_error_std for case in self.cases), default=0.0)

    def to_document(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite error becomes None."""
        document = asdict(self)
        document["passed"] = self.passed
        document["near_ties"] = self.near_ties
        document["max_logit_error_std"] = _finite(self.max_logit_error_std)
        for case in document["cases"]:
            case["max_logit_error_std"] = _finite(case["max_logit_error_std"])
        return document


def verify(
    bundle: Bundle, backend: str, threads: int | None = None, advance: Advance = silent
) -> Verdict:
    """Replay a backend's golden answers on its artifact.

    Raises:
        RunError: the answers cannot be read, or the artifact cannot be loaded.
    """
    golden = read_golden(bundle, backend)
    tokenizer = read_tokenizer(bundle)
    replays = replays_of(golden)
    total = sum(len(case.continuation_ids) for case, _ in replays)

    def answers(session: Session) -> Iterator[Iterator[Answer]]:
        done = 0
        for case, replay in replays:
            yield _replay(session, case, replay, choices(tokenizer, bundle))
            done += len(case.continuation_ids)
            advance(done, total, f"{case.name} {replay}")

    with open_session(bundle, backend, threads) as session:
        return judge(bundle, backend, answers(session))


def read_golden(bundle: Bundle, backend: str) -> Golden:
    """Read a backend's golden answers.

    Raises:
        RunError: the bundle has no such backend, or the answers cannot be read.
    """
    return Golden.from_json(bundle.read_text(bundle.backend(backend).golden))


def choices(tokenizer: Tokenizer, bundle: Bundle) -> int:
    """Return how many ids a greedy choice is among: what the tokenizer has."""
    return min(tokenizer.size, bundle.manifest.vocab_size)


def judge(bundle: Bundle, backend: str, answers: Iterable[Iterable[Answer]]) -> Verdict:
    """Hold what some runtime answered against a backend's golden answers.

    Args:
        answers: for each of `replays_of` the golden answers, in that order, an answer a step.

    Raises:
        RunError: the golden answers cannot be read.
    """
    entry, golden = bundle.backend(backend), read_golden(bundle, backend)
    tokenizer, template = read_tokenizer(bundle), read_chat_template(bundle)
    mismatches = [*_check_text(golden, tokenizer, template, bundle.manifest.stop_ids)]
    for check, expected, found in (
        ("activations", golden.activation_quantization, entry.activation_quantization),
        ("attention", golden.attention_quantization, entry.attention_quantization),
    ):
        if expected != found:
            mismatches.append(Mismatch(check, backend, None, None, expected, found))
    cases = []
    judging = _Judge(tokenizer, golden.tolerance)
    for (case, replay), steps in zip(replays_of(golden), answers, strict=True):
        verdict, differences = judging.judge(case, replay, steps)
        cases.append(verdict)
        mismatches += differences
    return Verdict(
        bundle=bundle.manifest.name,
        backend=backend,
        tolerance_std=golden.tolerance,
        tokenizer_cases=len(golden.tokenizer_cases),
        chat_cases=len(golden.chat_cases),
        cases=tuple(cases),
        mismatches=tuple(mismatches),
    )


def replays_of(golden: Golden) -> list[tuple[GoldenCase, Replay]]:
    """Return the cases in the ways and the order in which they are replayed."""
    return list(_replays(golden))


def pieces_of(case: GoldenCase, replay: Replay) -> list[tuple[int, ...]]:
    """Return the calls that replay a case, after a reset: each step's answer follows the last of
    its prompt's, then one call a step.
    """
    by_token = replay == "token by token"
    prompt = [(token,) for token in case.prompt_ids] if by_token else [case.prompt_ids]
    return [*prompt, *((token,) for token in case.fed_ids)]


def _replays(golden: Golden) -> Iterator[tuple[GoldenCase, Replay]]:
    for case in golden.cases:
        yield case, "in chunks"
    shortest = min((len(case.prompt_ids) for case in golden.cases), default=0)
    for case in golden.cases:
        if len(case.prompt_ids) <= max(shortest, _LONGEST_BY_TOKEN):
            yield case, "token by token"
    # Whatever the other cases left in the caches must not show.
    for case in golden.cases[:1]:
        yield case, "after reset"


def _check_text(
    golden: Golden,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    stop_ids: Sequence[int],
) -> Iterator[Mismatch]:
    for case in golden.tokenizer_cases:
        found = tuple(tokenizer.encode(case.text))
        if found != case.ids:
            yield Mismatch("tokenizer", repr(case.text), None, None, str(case.ids), str(found))
    if tuple(stop_ids) != golden.stop_ids:
        yield Mismatch("stop ids", "", None, None, str(golden.stop_ids), str(tuple(stop_ids)))
    yield from _check_chats(golden, tokenizer, template)


def _check_chats(
    golden: Golden, tokenizer: Tokenizer, template: ChatTemplate | None
) -> Iterator[Mismatch]:
    chats = golden.chat_cases
    names = [f"chat {i + 1}" for i in range(len(chats))]
    if not chats:
        return
    if template is None:
        yield Mismatch("chat", names[0], None, None, "a chat template", "none in the bundle")
        return
    try:
        template = replace(template, moment=golden.moment)
        rendered = template.render_all([(chat.messages, chat.variables) for chat in chats])
    except RunError as error:
        yield Mismatch("chat", "all chats", None, None, "rendered text", str(error))
        return
    for name, chat, text in zip(names, chats, rendered, strict=True):
        if text != chat.rendered:
            yield Mismatch("chat", name, None, None, repr(chat.rendered), repr(text))
        ids = tuple(tokenizer.encode(text))
        if ids != chat.ids:
            yield Mismatch("chat", name, None, None, str(chat.ids), str(ids))


def _replay(session: Session, case: GoldenCase, replay: Replay, choices: int) -> Iterator[Answer]:
    """Feed the recorded tokens, whatever the artifact itself prefers."""
    session.reset()
    calls = pieces_of(case, replay)
    first = len(calls) - len(case.continuation_ids)
    for call, tokens in enumerate(calls):
        # What follows the prompt is decoded, as in generation.
        decoding = call > first
        logits = session.decode(tokens[0]) if decoding else session.prefill(list(tokens))
        if call >= first:
            digest = case.digest(call - first)
            error = digest.error(logits) if digest is not None else 0.0
            yield Answer(int(np.argmax(logits[:choices])), error)


class _Judge:
    """Compares answers with a case's."""

    def __init__(self, tokenizer: Tokenizer, tolerance: float) -> None:
        self.tokenizer = tokenizer
        self.tolerance = tolerance

    def judge(
        self, case: GoldenCase, replay: Replay, answers: Iterable[Answer]
    ) -> tuple[CaseVerdict, list[Mismatch]]:
        name = f"{case.name} ({replay})"
        mismatches: list[Mismatch] = []
        near_ties, worst = 0, 0.0
        steps = zip(case.continuation_ids, case.margins, answers, strict=True)
        for step, (expected, margin, answer) in enumerate(steps):
            position = len(case.prompt_ids) - 1 + step
            found, error = answer.greedy_id, answer.error_std
            if found != expected and margin < 2 * self.tolerance:
                near_ties += 1
            elif found != expected:
                texts = self._margin(expected, margin), self._token(found)
                mismatches.append(Mismatch("greedy id", name, step, position, *texts))
            worst = max(worst, error)
            if error > self.tolerance:
                texts = f"error up to {self.tolerance:.3g} std", f"{error:.3g} std"
                mismatches.append(Mismatch("logits", name, step, position, *texts))
        passed = not mismatches
        count = len(case.continuation_ids)
        return CaseVerdict(case.name, replay, count, near_ties, worst, passed), mismatches

    def _token(self, token: int) -> str:
        return f"{token} {self.tokenizer.token(token)!r}"

    def _margin(self, token: int, margin: float) -> str:
        return f"{self._token(token)}, {margin:.3g} std ahead"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
