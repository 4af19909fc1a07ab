"""A row of logits without its bulk: what golden answers keep of it.

Whoever records and whoever reads a digest takes `make_digest` and `row_sums`, so that both mean
the same by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketlm.runtime_py.typed_json import FieldError

TOP_IDS = 8
SAMPLE_IDS = 64
BRIEF_SAMPLE_IDS = 8
SUMS = 64

# SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class LogitsDigest:
    """One row of logits without its bulk.

    Attributes:
        position: of the token whose logits these are: the last one processed, counted from 0.
        std, mean: over the whole row.
        top_ids, top_logits: the largest, largest first.
        sample_ids, sample_logits: spread over the vocabulary at a fixed stride.
        sums: `row_sums`; a brief digest has none.
        rounding: how far this row is from the same without rounding, as `error` measures.
    """

    position: int
    std: float
    mean: float
    top_ids: tuple[int, ...]
    top_logits: tuple[float, ...]
    sample_ids: tuple[int, ...]
    sample_logits: tuple[float, ...]
    sums: tuple[float, ...] = ()
    rounding: float = 0.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise FieldError(f"digest of position {self.position}: std={self.std} is not above 0")
        for name, ids, logits in (
            ("top", self.top_ids, self.top_logits),
            ("sample", self.sample_ids, self.sample_logits),
        ):
            if not ids or len(ids) != len(logits):
                raise FieldError(
                    f"digest of position {self.position}: {len(ids)} {name}_ids and "
                    f"{len(logits)} {name}_logits; both must have the same length, at least 1"
                )
            if min(ids) < 0:
                raise FieldError(
                    f"digest of position {self.position}: {name}_ids has {min(ids)}; must be 0 or "
                    "more"
                )

    def error(self, logits: NDArray[np.float32]) -> float:
        """Return the largest difference from a row of logits, in units of `std`.

        Infinite where the row has a value that is not finite, is too short, or is not cut into
        as many sums.
        """
        if max(self.ids) >= len(logits) or not np.isfinite(logits).all():
            return float("inf")
        mean, std = (float(f(logits, dtype=np.float64)) for f in (np.mean, np.std))
        error = self.error_of_columns(logits[list(self.ids)], mean, std)
        if self.sums:
            found = row_sums(logits, len(self.sums))
            if len(found) != len(self.sums):
                return float("inf")
            changes = np.abs(found - np.array(self.sums))
            error = max(error, float(changes.max()) / self.std)
        return error

    @property
    def ids(self) -> tuple[int, ...]:
        """The columns that the digest keeps."""
        return (*self.top_ids, *self.sample_ids)

    def error_of_columns(self, logits: NDArray[np.float32], mean: float, std: float) -> float:
        """Return `error` of a row of which only the kept columns, mean and std are known.

        Args:
            logits: at `ids`, in that order.
            mean, std: over the whole row, which is finite.
        """
        found = logits.astype(np.float64)
        differences = np.abs(found - np.array([*self.top_logits, *self.sample_logits]))
        largest = max(float(differences.max()), abs(mean - self.mean), abs(std - self.std))
        return largest / self.std


def make_digest(
    logits: NDArray[np.float32], position: int, *, brief: bool = False, rounding: float = 0.0
) -> LogitsDigest:
    """Record a row of logits, [V].

    Args:
        brief: few columns and no sums.
    """
    top = _largest(logits, TOP_IDS)
    wanted = BRIEF_SAMPLE_IDS if brief else SAMPLE_IDS
    stride = max(1, len(logits) // wanted)
    sample = np.arange(0, len(logits), stride)[:wanted]
    return LogitsDigest(
        position=position,
        std=_short(np.std(logits, dtype=np.float64)),
        mean=_short(np.mean(logits, dtype=np.float64)),
        top_ids=tuple(int(i) for i in top),
        top_logits=_shortened(logits[top]),
        sample_ids=tuple(int(i) for i in sample),
        sample_logits=_shortened(logits[sample]),
        sums=() if brief else _shortened(row_sums(logits, SUMS)),
        rounding=rounding,
    )


def row_sums(logits: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Return sums of every column of a row, each column in one of them, with a random sign.

    Columns are cut into `count` runs of equal length but the last. A sum is divided by the root of
    its run's length, so independent errors of its columns give it an error of their own size
    (root of the mean square), and an error in one column alone shows divided by that root.
    """
    columns = len(logits)
    run = -(-columns // count)
    starts = np.arange(0, columns, run)
    sums = np.add.reduceat(logits.astype(np.float64) * _signs(columns), starts)
    return np.asarray(sums / np.sqrt(run))


@lru_cache(maxsize=4)
def _signs(columns: int) -> NDArray[np.float64]:
    """Return 1 or -1 for each column: the highest bit of the SplitMix64 value of its number."""
    with np.errstate(over="ignore"):
        state = (np.arange(columns, dtype=np.uint64) + np.uint64(1)) * _STEP
        state = (state ^ (state >> np.uint64(30))) * _MIX[0]
        state = (state ^ (state >> np.uint64(27))) * _MIX[1]
        state ^= state >> np.uint64(31)
    return np.where(state >> np.uint64(63) == 0, 1.0, -1.0)


def greedy_margin(logits: NDArray[np.float32], limit: int) -> float:
    """Return how far the largest logit below `limit` is above the second, in units of std."""
    if min(limit, len(logits)) < 2:
        return float(np.finfo(np.float32).max)
    second, first = np.partition(logits[:limit], -2)[-2:].astype(np.float64)
    return _short((first - second) / np.std(logits, dtype=np.float64))


def _largest(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the ids of the largest, largest first; of equal ones the lower id first."""
    count = min(count, len(logits))
    least = np.partition(logits, -count)[-count]
    candidates = np.flatnonzero(logits >= least)
    order = np.argsort(-logits[candidates], kind="stable")
    return candidates[order[:count]]


def _shortened(values: Sequence[np.floating[Any]] | NDArray[Any]) -> tuple[float, ...]:
    return tuple(_short(value) for value in values)


def _short(value: np.floating[Any]) -> float:
    # Nine digits tell every float32 apart.
    return float(f"{float(value):.9g}")
