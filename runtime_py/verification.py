"""verify(): hold an artifact against its golden answers and name every difference."""

from collections.abc import Callable, Iterable

from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.golden_comparison import GoldenComparison
from pocketlm.runtime_py.golden_coverage import coverage_of
from pocketlm.runtime_py.replay import ReplayStep, placed_errors, replay_steps, replays_of
from pocketlm.runtime_py.session import Session, open_model
from pocketlm.runtime_py.strict import reason_against, run_strict, strict_steps
from pocketlm.runtime_py.text_checks import check_metadata, check_texts
from pocketlm.runtime_py.tokenizer import Tokenizer, read_tokenizer
from pocketlm.runtime_py.verification_result import Mismatch, StrictResult, VerificationResult

# (steps done, steps in all, what)
Advance = Callable[[int, int, str], None]

_ELSEWHERE = StrictResult("not run", "this runtime was not started by verify")


def silent(done: int, total: int, what: str) -> None:
    """Report nothing."""


def verify(
    bundle: Bundle,
    backend: str,
    threads: int | None = None,
    advance: Advance = silent,
    *,
    strict: bool | None = None,
) -> VerificationResult:
    """Replay a backend's golden answers on its artifact.

    Args:
        strict: whether to run it also without rounded activations; None where that takes little
            memory.

    Raises:
        RunError: the answers cannot be read, or the artifact cannot be loaded.
    """
    golden, tokenizer = read_golden(bundle, backend), read_tokenizer(bundle)
    skipped = reason_against(bundle, backend, golden, strict)
    total = sum(len(case.continuation_ids) for case, _ in replays_of(golden))
    total += sum(len(case.logits) for case in golden.placed_cases)
    total += 0 if skipped else strict_steps(golden)
    finished = 0

    def done(steps: int, what: str) -> None:
        nonlocal finished
        finished += steps
        advance(finished, total, what)

    comparison = GoldenComparison(tokenizer, golden.tolerance)
    comparison.mismatches += check_metadata(bundle, backend)
    model = open_model(bundle, backend, threads)
    with Session(model, bundle.manifest, backend) as session:
        for case, replay in replays_of(golden):
            limit = choices(tokenizer, bundle)
            comparison.compare(case, replay, replay_steps(session, case, replay, limit))
            done(len(case.continuation_ids), f"{case.name} {replay}")
        for placed in golden.placed_cases:
            comparison.compare_placed(placed, placed_errors(model, placed))
            done(len(placed.logits), f"{placed.name} placed")
    if skipped is not None:
        return _result(bundle, backend, golden, comparison, (skipped, []))
    strict_result = run_strict(bundle, backend, golden, tokenizer, threads, done)
    return _result(bundle, backend, golden, comparison, strict_result)


def read_golden(bundle: Bundle, backend: str) -> Golden:
    """Read a backend's golden answers.

    Raises:
        RunError: the bundle has no such backend, or the answers cannot be read.
    """
    return Golden.from_json(bundle.read_text(bundle.backend(backend).golden))


def choices(tokenizer: Tokenizer, bundle: Bundle) -> int:
    """Return how many ids a greedy choice is among: what the tokenizer has."""
    return min(tokenizer.size, bundle.manifest.vocab_size)


def verify_answers(
    bundle: Bundle, backend: str, answers: Iterable[Iterable[ReplayStep]]
) -> VerificationResult:
    """Compare what some other runtime answered with a backend's golden answers.

    Args:
        answers: for each of `replays_of` the golden answers, in that order, an answer a step.

    Raises:
        RunError: the golden answers cannot be read.
    """
    golden = read_golden(bundle, backend)
    comparison = GoldenComparison(read_tokenizer(bundle), golden.tolerance)
    for (case, replay), steps in zip(replays_of(golden), answers, strict=True):
        comparison.compare(case, replay, steps)
    return _result(bundle, backend, golden, comparison, (_ELSEWHERE, []))


def _result(
    bundle: Bundle,
    backend: str,
    golden: Golden,
    comparison: GoldenComparison,
    strict: tuple[StrictResult, list[Mismatch]],
) -> VerificationResult:
    statistics = comparison.statistics()
    manifest, entry = bundle.manifest, bundle.backend(backend)
    mismatches = *check_texts(bundle, backend, golden), *comparison.mismatches, *strict[1]
    return VerificationResult(
        bundle=manifest.name,
        backend=backend,
        tolerance_std=golden.tolerance,
        tokenizer_cases=len(golden.tokenizer_cases),
        chat_cases=len(golden.chat_cases),
        cases=tuple(comparison.cases),
        mismatches=mismatches,
        statistics=statistics,
        strict=strict[0],
        coverage=coverage_of(golden, entry.caches, manifest.context_length, manifest.vocab_size),
    )
