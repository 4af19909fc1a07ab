"""Runs the tests of a plan on one loaded artifact."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import mean, median, stdev
from time import perf_counter

import psutil

from pocketlm.runtime_py.bench.noise import NoiseMeter
from pocketlm.runtime_py.bench.plan import BenchTest
from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.generation import GenerationRequest, generate
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.sampling import SamplingOptions
from pocketlm.runtime_py.session import Session
from pocketlm.runtime_py.speculation.drafter import Drafter
from pocketlm.runtime_py.tokenizer import Tokenizer

# (done, total, what)
Advance = Callable[[int, int, str], None]


@dataclass(frozen=True)
class BenchRow:
    """One test's result.

    Attributes:
        seconds: of each repetition.
        drafted, accepted: tokens of all repetitions together.
    """

    test: BenchTest
    seconds: tuple[float, ...]
    drafted: int = 0
    accepted: int = 0

    @property
    def speeds(self) -> tuple[float, ...]:
        """Tokens per second of each repetition."""
        return tuple(self.test.tokens / seconds for seconds in self.seconds)

    @property
    def tokens_per_s(self) -> float:
        """The mean, as llama-bench shows it."""
        return mean(self.speeds)

    @property
    def median_tokens_per_s(self) -> float:
        return median(self.speeds)

    @property
    def deviation(self) -> float:
        """The standard deviation of the speeds; 0 for one repetition."""
        return stdev(self.speeds) if len(self.speeds) > 1 else 0.0


@dataclass(frozen=True)
class Bench:
    """All that was measured.

    Attributes:
        load_s: of the artifact.
        first_token_s: from an empty context to the first token of an answer to the plan's shortest
            prompt: its processing at depth 0; None without such a test.
        resident_bytes: of this process at the end; `peak_bytes` the most until then.
        foreign_share: of the machine's processor time that others took.
    """

    rows: tuple[BenchRow, ...]
    load_s: float
    first_token_s: float | None
    resident_bytes: int
    foreign_share: float


def bench_ids(bundle: Bundle, backend: str, limit: int) -> list[int]:
    """Return ids of text to feed: those of the bundle's golden answers, over and over.

    Args:
        limit: how many.
    """
    golden = Golden.from_json(bundle.read_text(bundle.backend(backend).golden))
    ids = [token for case in golden.cases for token in (*case.prompt_ids, *case.continuation_ids)]
    bos = bundle.manifest.bos_id
    first = [] if bos is None else [bos]
    text = [token for token in ids if token != bos] or ids or [0]
    return list(islice((*first, *islice(cycle(text), limit)), limit))


def measure(
    session: Session,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    tests: Sequence[BenchTest],
    repetitions: int,
    load_s: float,
    drafter: Drafter | None = None,
    advance: Advance = lambda done, total, what: None,
) -> Bench:
    """Run each test once to warm up and so many times to measure.

    Args:
        ids: text, as long as the longest test.
        drafter: of the answers; without one they are fed, with one they are generated.
    """
    noise = NoiseMeter()
    total, rows = len(tests) * (1 + repetitions), []
    for number, test in enumerate(tests):
        runs = []
        for repetition in range(1 + repetitions):
            advance(number * (1 + repetitions) + repetition, total, test.name)
            runs.append(_run(session, tokenizer, ids, test, drafter))
        seconds, drafted, accepted = zip(*runs[1:], strict=True)
        rows.append(BenchRow(test, seconds, sum(drafted), sum(accepted)))
    advance(total, total, "done")
    return Bench(
        rows=tuple(rows),
        load_s=load_s,
        first_token_s=_first_token_s(rows),
        resident_bytes=psutil.Process().memory_info().rss,
        foreign_share=noise.foreign_share(),
    )


def _run(
    session: Session,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    test: BenchTest,
    drafter: Drafter | None,
) -> tuple[float, int, int]:
    """Return the seconds of one run of a test, and its drafted and accepted tokens."""
    session.reset()
    depth = max(test.depth, 1) if test.kind == "tg" else test.depth
    if test.kind == "tg" and drafter is not None:
        request = GenerationRequest(SamplingOptions(), (), test.tokens + 1, drafter=drafter)
        generation = generate(session, tokenizer, ids[:depth], request)
        for _ in generation:
            pass
        result = generation.result
        return result.decode_s, result.drafted_tokens, result.accepted_tokens
    if depth:
        session.prefill(ids[:depth])
    begun = perf_counter()
    for call in _calls(ids[depth : depth + test.tokens], test):
        session.prefill(call)
    return perf_counter() - begun, 0, 0


def _calls(ids: Sequence[int], test: BenchTest) -> Iterator[Sequence[int]]:
    return iter([ids]) if test.kind == "pp" else ([token] for token in ids)


def _first_token_s(rows: Sequence[BenchRow]) -> float | None:
    prompts = [row for row in rows if row.test.kind == "pp" and row.test.depth == 0]
    shortest = min(prompts, key=lambda row: row.test.tokens, default=None)
    return None if shortest is None else median(shortest.seconds)
