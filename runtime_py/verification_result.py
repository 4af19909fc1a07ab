"""What verify found, as values: differences, cases, the strict part, and what was not looked at."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from pocketlm.runtime_py.golden_coverage import Coverage

Replay = Literal["in chunks", "token by token", "after reset", "placed"]
StrictState = Literal["passed", "failed", "not needed", "not run"]


@dataclass(frozen=True)
class Mismatch:
    """One difference.

    Attributes:
        check: "tokenizer", "chat", "stop ids", "activations", "attention", "settings", "greedy
            id", "logits", "median error", "mean error", and of the strict part "exact logits",
            "exact median error" and "exact mean error".
        case, step, position: where; None where that has no meaning.
    """

    check: str
    case: str
    step: int | None
    position: int | None
    expected: str
    found: str


@dataclass(frozen=True)
class CaseResult:
    """One case, replayed in one way."""

    name: str
    replay: Replay
    steps: int
    near_ties: int
    max_logit_error_std: float
    passed: bool


@dataclass(frozen=True)
class ErrorStatistics:
    """The errors of many rows together, beside what rounding explains, in standard deviations.

    Attributes:
        rows: how many; 0 where they are too few to compare.
    """

    rows: int = 0
    median_std: float = 0.0
    mean_std: float = 0.0
    allowed_median_std: float = 0.0
    allowed_mean_std: float = 0.0


@dataclass(frozen=True)
class StrictResult:
    """The artifact without rounded activations, against the eager model without.

    Attributes:
        reason: why it was not run or not needed; empty where it ran.
        tolerance_std: largest error that a logit may have.
        median_std, allowed_median_std: over all rows; both 0 where they are too few.
    """

    state: StrictState
    reason: str = ""
    tolerance_std: float = 0.0
    median_std: float = 0.0
    allowed_median_std: float = 0.0
    cases: tuple[CaseResult, ...] = ()

    @property
    def max_logit_error_std(self) -> float:
        return max((case.max_logit_error_std for case in self.cases), default=0.0)


@dataclass(frozen=True)
class VerificationResult:
    """What verify found.

    Attributes:
        tolerance_std: largest error that a logit may have, in units of its row's std.
        near_ties: steps where another id won whose logit the tolerance cannot tell apart.
        coverage: which positions, slots and rows of the table the answers touch.
    """

    bundle: str
    backend: str
    tolerance_std: float
    tokenizer_cases: int
    chat_cases: int
    cases: tuple[CaseResult, ...]
    mismatches: tuple[Mismatch, ...]
    statistics: ErrorStatistics
    strict: StrictResult
    coverage: Coverage

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
        document["max_logit_error_std"] = self.max_logit_error_std
        document["strict"]["max_logit_error_std"] = self.strict.max_logit_error_std
        document["coverage"]["not_touched"] = self.coverage.not_touched
        return {key: _finite(value) for key, value in document.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
