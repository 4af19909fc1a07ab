"""The strict part of verify: an artifact without rounded activations, against a model without.

Rounding hides small faults, so the same program runs once with products in float32.
"""

from collections.abc import Callable

from pocketlm.runtime_py import engines
from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.golden_comparison import GoldenComparison
from pocketlm.runtime_py.replay import placed_errors, replay_steps
from pocketlm.runtime_py.session import Session, open_model
from pocketlm.runtime_py.tokenizer import Tokenizer
from pocketlm.runtime_py.verification_result import Mismatch, StrictResult

# The strict part runs unasked if it needs no more memory than this beyond the ordinary part.
_UNASKED_BYTES = 2 << 30

# (steps done, what)
Done = Callable[[int, str], None]


def reason_against(
    bundle: Bundle, backend: str, golden: Golden, strict: bool | None
) -> StrictResult | None:
    """Return why the strict part is not run; None if it is to run.

    Args:
        strict: None runs it where that takes little memory.

    Raises:
        RunError: it was asked for, and the engine has no way.
    """
    if golden.activation_quantization == "none":
        return StrictResult("not needed", "no activations are rounded")
    if strict is False:
        return StrictResult("not run", "left out by --no-strict")
    exact = engines.load(backend).exact
    if exact is None:
        reason = f"backend {backend} cannot run without rounded activations"
        if strict:
            raise RunError(f"--strict: {reason}; leave the flag out, or verify another backend")
        return StrictResult("not run", reason)
    extra = exact.extra_bytes(bundle.manifest, bundle.backend(backend))
    if strict is None and extra > _UNASKED_BYTES:
        gib = extra / (1 << 30)
        return StrictResult("not run", f"takes about {gib:.1f} GiB more memory; add --strict")
    return None


def strict_steps(golden: Golden) -> int:
    """Return how many answers the strict part takes."""
    return sum(len(case.continuation_ids) for case in golden.cases) + sum(
        len(case.exact) for case in golden.placed_cases
    )


def run_strict(
    bundle: Bundle, backend: str, golden: Golden, tokenizer: Tokenizer, threads: int | None,
    done: Done,
) -> tuple[StrictResult, list[Mismatch]]:  # fmt: skip
    """Replay the golden answers without rounded activations.

    Raises:
        RunError: the artifact cannot be loaded that way.
    """
    comparison = GoldenComparison(tokenizer, golden.exact_tolerance, is_exact=True)
    model = open_model(bundle, backend, threads, exact=True)
    with Session(model, bundle.manifest, backend) as session:
        for case in golden.cases:
            answers = replay_steps(session, case, "in chunks", tokenizer.size, exact=True)
            comparison.compare(case, "in chunks", answers)
            done(len(case.continuation_ids), f"{case.name} strict")
        for placed in golden.placed_cases:
            comparison.compare_placed(placed, placed_errors(model, placed, exact=True))
            done(len(placed.exact), f"{placed.name} strict")
    statistics = comparison.statistics()
    result = StrictResult(
        state="failed" if comparison.mismatches else "passed",
        tolerance_std=golden.exact_tolerance,
        median_std=statistics.median_std,
        allowed_median_std=statistics.allowed_median_std,
        cases=tuple(comparison.cases),
    )
    return result, comparison.mismatches
