"""Logits → one token id: greedy or drawn.

The filters and their order are those of transformers' `generate`: repetition penalty, temperature,
top-k, top-p, min-p; each sees what the one before it left.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketlm.runtime_py.errors import RunError

# transformers' value where do_sample is true and generation_config.json names no top_k.
_UNNAMED_TOP_K = 50


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen.

    Attributes:
        temperature: divides the logits; 0 is greedy, and the filters below do nothing then.
        top_k: keep the k likeliest, and all that tie with the last of them; 0 keeps all.
        top_p: keep the likeliest until their probabilities reach this; 1 keeps all.
        min_p: keep what is at least this fraction of the likeliest's probability; 0 keeps all.
        repetition_penalty: above 1 makes every token seen so far less likely; 1 does nothing.
        seed: equal seeds draw equal tokens; None draws differently each time.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        checks = (
            (0 <= self.temperature < float("inf"), f"temperature={self.temperature}", "0 or more"),
            (self.top_k >= 0, f"top_k={self.top_k}", "0 (all) or more"),
            (0 < self.top_p <= 1, f"top_p={self.top_p}", "above 0, at most 1"),
            (0 <= self.min_p <= 1, f"min_p={self.min_p}", "from 0 to 1"),
            (
                0 < self.repetition_penalty < float("inf"),
                f"repetition_penalty={self.repetition_penalty}",
                "above 0; 1 is none",
            ),
            (self.seed is None or self.seed >= 0, f"seed={self.seed}", "0 or more"),
        )
        for fine, found, wanted in checks:
            if not fine:
                raise RunError(f"{found}: must be {wanted}")


def published_options(
    generation_config: Mapping[str, Any], typed: Mapping[str, Any] | None = None
) -> SamplingOptions:
    """Read generation_config.json as transformers does: without do_sample, greedy.

    Values that mean "off" somewhere in the field are read so: top_k null or below 1 (vLLM,
    llama.cpp), top_p null or above 1 (transformers), min_p null; temperature 0 is greedy.

    Args:
        typed: options that the user sets; they stand in the place of the file's, which then need
            not be readable.

    Raises:
        RunError: a value is of the wrong type or out of range; names the file and the key.
    """
    typed = typed or {}
    published = _Published({k: v for k, v in generation_config.items() if k not in typed})
    options = SamplingOptions(repetition_penalty=published.repetition_penalty())
    if typed.get("temperature") != 0 and published.samples("temperature" in typed):
        options = replace(
            options,
            temperature=published.number("temperature", 1.0, "0 or more", lambda v: v >= 0),
            top_k=published.top_k(),
            top_p=published.top_p(),
            min_p=published.number("min_p", 0.0, "from 0 to 1", lambda v: 0 <= v <= 1),
        )
    return replace(options, **typed)


@dataclass(frozen=True)
class _Published:
    """Reads single values of generation_config.json."""

    document: Mapping[str, Any]

    def samples(self, is_decided: bool) -> bool:
        value = self.document.get("do_sample")
        if value is not None and not isinstance(value, bool) and not is_decided:
            raise _wrong("do_sample", value, "true or false")
        return value is True

    def repetition_penalty(self) -> float:
        wanted = "above 0; 1 is none"
        return self.number("repetition_penalty", 1.0, wanted, lambda v: v > 0)

    def top_k(self) -> int:
        if "top_k" not in self.document:
            return _UNNAMED_TOP_K
        wanted = "a whole number; 0 or null keeps all"
        return max(0, int(self.number("top_k", 0, wanted, lambda v: v == int(v))))

    def top_p(self) -> float:
        return min(1.0, self.number("top_p", 1.0, "above 0; 1 or null keeps all", lambda v: v > 0))

    def number(self, key: str, missing: float, wanted: str, fits: Callable[[float], bool]) -> float:
        value = self.document.get(key)
        if value is None:
            return missing
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(key, value, "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or not fits(number):
            raise _wrong(key, value, wanted)
        return number


def _wrong(key: str, value: object, wanted: str) -> RunError:
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    return RunError(
        f"generation_config.json: {key} is {shown}; must be {wanted}; correct it in the "
        "checkpoint, or take it out"
    )


def greedy_id(logits: NDArray[np.float32], limit: int) -> int:
    """Return the id of the largest logit below `limit`; of equals the smallest.

    Raises:
        RunError: a logit is not a number.
    """
    best = int(np.argmax(logits[:limit]))
    # argmax stops at a NaN, so one look is enough.
    if np.isnan(logits[best]):
        raise RunError(
            f"logit {best} is not a number: the artifact computes nonsense here; run "
            "pocketlm verify, or build with another recipe"
        )
    return best


class Sampler:
    """Chooses tokens one after another; owns the random state.

    Args:
        limit: ids at or beyond it are never chosen: the tokenizer has no text for them.
    """

    def __init__(self, options: SamplingOptions, limit: int) -> None:
        self.options = options
        self.limit = limit
        self._random = np.random.default_rng(options.seed)

    def choose(self, logits: NDArray[np.float32], seen: Sequence[int] = ()) -> int:
        """Return the next token id.

        Args:
            logits: [V].
            seen: the tokens so far, prompt included; read for the repetition penalty only.

        Raises:
            RunError: a logit is not a number.
        """
        best = greedy_id(logits, self.limit)
        options = self.options
        if options.repetition_penalty != 1:
            logits = penalized(logits[: self.limit], seen, options.repetition_penalty)
            best = greedy_id(logits, self.limit)
        if options.temperature == 0 or not np.isfinite(logits[best]):
            return best
        ids, probabilities = candidates(logits[: self.limit], options)
        # One draw a token, whatever the filters left: a seed means the same in every version.
        index = np.searchsorted(np.cumsum(probabilities), self._random.random(), side="right")
        return int(ids[min(int(index), len(ids) - 1)])


def penalized(
    logits: NDArray[np.float32], seen: Sequence[int], penalty: float
) -> NDArray[np.float32]:
    """Return logits with every seen token's moved towards unlikely by the factor `penalty`."""
    result = logits.copy()
    ids = np.unique(np.asarray(seen, dtype=np.int64))
    ids = ids[ids < len(logits)]
    before = logits[ids]
    result[ids] = np.where(before < 0, before * penalty, before / penalty)
    return result


def candidates(
    logits: NDArray[np.float32], options: SamplingOptions
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the ids that the filters leave, likeliest first, and their probabilities.

    Of equally likely ids the smaller comes first. Probabilities add up to 1.
    """
    ids = np.arange(len(logits))
    if 0 < options.top_k < len(logits):
        smallest_kept = np.partition(logits, -options.top_k)[-options.top_k]
        ids = np.flatnonzero(logits >= smallest_kept)
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    # Less the largest first: a tiny temperature must not overflow.
    scaled = (logits[ids].astype(np.float64) - float(logits[ids[0]])) / options.temperature
    probabilities = _normalized(np.exp(scaled))
    if options.top_p < 1:
        before = np.cumsum(probabilities) - probabilities
        kept = int(np.count_nonzero(before < options.top_p))
        ids, probabilities = ids[:kept], _normalized(probabilities[:kept])
    if options.min_p > 0:
        kept = int(np.count_nonzero(probabilities >= options.min_p * probabilities[0]))
        ids, probabilities = ids[:kept], _normalized(probabilities[:kept])
    return ids, probabilities


def _normalized(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    total: np.float64 = weights.sum()
    return weights / total
