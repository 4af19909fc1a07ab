"""verify(): hold an artifact against its golden answers and name every difference."""

from collections.abc import Callable, Iterable

from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.golden_coverage import coverage_of
from pocketlm.runtime_py.judging import Judge
from pocketlm.runtime_py.replay import ReplayStep, placed_errors, replay_steps, replays_of
from pocketlm.runtime_py.session import Session, open_model
from pocketlm.runtime_py.strict import reason_against, run_strict, strict_steps
from pocketlm.runtime_py.text_checks import check_metadata, check_texts
from pocketlm.runtime_py.tokenizer import Tokenizer, read_tokenizer
from pocketlm.runtime_py.verdict import Mismatch, StrictVerdict, Verdict

# (steps done, steps in all, what)
Advance = Callable[[int, int, str], None]

_ELSEWHERE = StrictVerdict("not run", "this runtime was not started by verify")


def silent(done: int, total: int, what: str) -> None:
    """Report nothing."""


def verify(
    bundle: Bundle,
    backend: str,
    threads: int | None = None,
    advance: Advance = silent,
    *,
    strict: bool | None = None,
) -> Verdict:
    """Replay a backend's golden answers on its artifact.

    Args:
        strict: whether to run it also without rounded activations; None where that takes little
            memory.

    Raises:
        RunError: the answers cannot be read, or the artifact cannot be loaded.
    """
    golden, tokenizer = read_golden(bundle, backend), read_tokenizer(bundle)
    strict_verdict = reason_against(bundle, backend, golden, strict)
    total = sum(len(case.continuation_ids) for case, _ in replays_of(golden))
    total += sum(len(case.logits) for case in golden.placed_cases)
    total += 0 if strict_verdict else strict_steps(golden)
    finished = 0

    def done(steps: int, what: str) -> None:
        nonlocal finished
        finished += steps
        advance(finished, total, what)

    judge = Judge(tokenizer, golden.tolerance)
    judge.mismatches += check_metadata(bundle, backend)
    model = open_model(bundle, backend, threads)
    with Session(model, bundle.manifest, backend) as session:
        for case, replay in replays_of(golden):
            limit = choices(tokenizer, bundle)
            judge.judge(case, replay, replay_steps(session, case, replay, limit))
            done(len(case.continuation_ids), f"{case.name} {replay}")
        for placed in golden.placed_cases:
            judge.judge_placed(placed, placed_errors(model, placed))
            done(len(placed.logits), f"{placed.name} placed")
    if strict_verdict is not None:
        return _verdict(bundle, backend, golden, judge, (strict_verdict, []))
    strict_result = run_strict(bundle, backend, golden, tokenizer, threads, done)
    return _verdict(bundle, backend, golden, judge, strict_result)


def read_golden(bundle: Bundle, backend: str) -> Golden:
    """Read a backend's golden answers.

    Raises:
        RunError: the bundle has no such backend, or the answers cannot be read.
    """
    return Golden.from_json(bundle.read_text(bundle.backend(backend).golden))


def choices(tokenizer: Tokenizer, bundle: Bundle) -> int:
    """Return how many ids a greedy choice is among: what the tokenizer has."""
    return min(tokenizer.size, bundle.manifest.vocab_size)


def judge(bundle: Bundle, backend: str, answers: Iterable[Iterable[ReplayStep]]) -> Verdict:
    """Hold what some other runtime answered against a backend's golden answers.

    Args:
        answers: for each of `replays_of` the golden answers, in that order, an answer a step.

    Raises:
        RunError: the golden answers cannot be read.
    """
    golden = read_golden(bundle, backend)
    judging = Judge(read_tokenizer(bundle), golden.tolerance)
    for (case, replay), steps in zip(replays_of(golden), answers, strict=True):
        judging.judge(case, replay, steps)
    return _verdict(bundle, backend, golden, judging, (_ELSEWHERE, []))


def _verdict(
    bundle: Bundle,
    backend: str,
    golden: Golden,
    judging: Judge,
    strict: tuple[StrictVerdict, list[Mismatch]],
) -> Verdict:
    statistics = judging.statistics()
    manifest, entry = bundle.manifest, bundle.backend(backend)
    mismatches = *check_texts(bundle, backend, golden), *judging.mismatches, *strict[1]
    return Verdict(
        bundle=manifest.name,
        backend=backend,
        tolerance_std=golden.tolerance,
        tokenizer_cases=len(golden.tokenizer_cases),
        chat_cases=len(golden.chat_cases),
        cases=tuple(judging.cases),
        mismatches=mismatches,
        statistics=statistics,
        strict=strict[0],
        coverage=coverage_of(golden, entry.caches, manifest.context_length, manifest.vocab_size),
    )
