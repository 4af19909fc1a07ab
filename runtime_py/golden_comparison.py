"""Compares answers with golden answers: which errors and other choices rounding explains."""

from collections.abc import Iterable, Sequence

import numpy as np

from pocketlm.runtime_py.golden_cases import GoldenCase, PlacedCase
from pocketlm.runtime_py.logits_digest import LogitsDigest
from pocketlm.runtime_py.replay import ReplayStep
from pocketlm.runtime_py.tokenizer import Tokenizer
from pocketlm.runtime_py.verification_result import CaseResult, ErrorStatistics, Mismatch, Replay

# Two roundings that have nothing to do with each other are √2 as far apart as one is from the exact
# row; the rest is for the chance of which rows were taken (docs/numerics.md).
_INDEPENDENT_ROUNDINGS = 1.6
# Below this many rows a median says too little; the exact run's errors differ less.
_FEWEST_ROWS, _FEWEST_EXACT_ROWS = 64, 32
# What float sums in another order add to half of all rows at most, in standard deviations: twenty
# times what was ever measured (docs/numerics.md).
_FLOAT_NOISE_STD = 1e-4


class GoldenComparison:
    """Compares answers with a golden case's, and remembers all errors.

    Args:
        tolerance: largest error, in standard deviations of a row.
        is_exact: whether the artifact runs without rounded activations.
    """

    def __init__(self, tokenizer: Tokenizer, tolerance: float, *, is_exact: bool = False) -> None:
        self.tokenizer, self.tolerance, self.is_exact = tokenizer, tolerance, is_exact
        self.mismatches: list[Mismatch] = []
        self.cases: list[CaseResult] = []
        self._errors: list[float] = []
        self._roundings: list[float] = []

    def compare(self, case: GoldenCase, replay: Replay, answers: Iterable[ReplayStep]) -> None:
        """Compare each step's answer with the case's."""
        name = f"{case.name} ({replay})"
        near_ties, worst, before = 0, 0.0, len(self.mismatches)
        for step, (expected, answer) in enumerate(zip(case.continuation_ids, answers, strict=True)):
            position = len(case.prompt_ids) - 1 + step
            found = answer.greedy_id
            if not self.is_exact and found != expected:
                if case.may_choose(step, found):
                    near_ties += 1
                else:
                    texts = self._margin(case, step), self._token(found)
                    self.mismatches.append(Mismatch("greedy id", name, step, position, *texts))
            digest = case.digest(step, exact=self.is_exact)
            if digest is not None:
                self._remember(digest, answer.error_std)
            worst = max(worst, answer.error_std)
            self._check(name, step, position, answer.error_std)
        steps = len(case.continuation_ids)
        passed = len(self.mismatches) == before
        self.cases.append(CaseResult(case.name, replay, steps, near_ties, worst, passed))

    def compare_placed(self, case: PlacedCase, errors: Sequence[float]) -> None:
        """Compare the error after each recorded call with the tolerance."""
        digests = case.exact if self.is_exact else case.logits
        before = len(self.mismatches)
        for step, (digest, error) in enumerate(zip(digests, errors, strict=True)):
            self._remember(digest, error)
            self._check(f"{case.name} (placed)", step, digest.position, error)
        passed = len(self.mismatches) == before
        worst = max(errors, default=0.0)
        self.cases.append(CaseResult(case.name, "placed", len(errors), 0, worst, passed))

    def statistics(self) -> ErrorStatistics:
        """Compare the errors of all rows together with what rounding explains."""
        fewest = _FEWEST_EXACT_ROWS if self.is_exact else _FEWEST_ROWS
        if len(self._errors) < fewest:
            return ErrorStatistics()
        found = ErrorStatistics(
            len(self._errors),
            *(float(f(self._errors)) for f in (np.median, np.mean)),
            *(
                _INDEPENDENT_ROUNDINGS * float(f(self._roundings)) + _FLOAT_NOISE_STD
                for f in (np.median, np.mean)
            ),
        )
        prefix = "exact " if self.is_exact else ""
        for name, error, allowed in (
            ("median", found.median_std, found.allowed_median_std),
            ("mean", found.mean_std, found.allowed_mean_std),
        ):
            if not error <= allowed:
                texts = f"up to {allowed:.3g} std", f"{error:.3g} std"
                self.mismatches.append(
                    Mismatch(f"{prefix}{name} error", f"{found.rows} rows", None, None, *texts)
                )
        return found

    def _remember(self, digest: LogitsDigest, error: float) -> None:
        # A row beyond the tolerance is a difference by itself and shall not make the mean one too.
        self._errors.append(min(error, self.tolerance))
        self._roundings.append(digest.rounding)

    def _check(self, name: str, step: int, position: int, error: float) -> None:
        if not error <= self.tolerance:
            texts = f"error up to {self.tolerance:.3g} std", f"{error:.3g} std"
            check = "exact logits" if self.is_exact else "logits"
            self.mismatches.append(Mismatch(check, name, step, position, *texts))

    def _token(self, token: int) -> str:
        return f"{token} {self.tokenizer.token(token)!r}"

    def _margin(self, case: GoldenCase, step: int) -> str:
        return f"{self._token(case.continuation_ids[step])}, {case.margins[step]:.3g} std ahead"
