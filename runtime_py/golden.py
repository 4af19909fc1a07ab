"""Golden answers: what an artifact must reproduce, recorded at build time. Knows no engine.

The reader owns the format. Builders record with `make_digest` and `greedy_margin`, so that both
sides mean the same by a digest. One file per backend, golden/BACKEND.json.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime_py.errors import RunError
from runtime_py.manifest import ActivationQuantization, AttentionQuantization
from runtime_py.typed_json import FieldError, load_object, read_as

GOLDEN_FORMAT_VERSION = 1
TOP_IDS = 8
SAMPLE_IDS = 64


@dataclass(frozen=True)
class TokenizerCase:
    """A text and its ids: no special token added, no BOS."""

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class ChatCase:
    """Messages, what the template makes of them, and the ids of that, nothing added.

    Attributes:
        variables: template variables such as enable_thinking; add_generation_prompt is true
            unless it is among them.
    """

    messages: tuple[Mapping[str, Any], ...]
    variables: Mapping[str, Any]
    rendered: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class LogitsDigest:
    """One row of logits without its bulk.

    Attributes:
        position: of the token whose logits these are: the last one processed, counted from 0.
        std, mean: over the whole row.
        top_ids, top_logits: the largest, largest first.
        sample_ids, sample_logits: spread over the vocabulary at a fixed stride.
    """

    position: int
    std: float
    mean: float
    top_ids: tuple[int, ...]
    top_logits: tuple[float, ...]
    sample_ids: tuple[int, ...]
    sample_logits: tuple[float, ...]

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

    def error(self, logits: NDArray[np.float32]) -> float:
        """Return the largest difference from a row of logits, in units of `std`.

        Infinite where the row has a value that is not finite, or is too short.
        """
        if max(self.ids) >= len(logits) or not np.isfinite(logits).all():
            return float("inf")
        mean, std = (float(f(logits, dtype=np.float64)) for f in (np.mean, np.std))
        return self.error_of_columns(logits[list(self.ids)], mean, std)

    @property
    def ids(self) -> tuple[int, ...]:
        """The columns that the digest keeps."""
        return (*self.top_ids, *self.sample_ids)

    def error_of_columns(self, logits: NDArray[np.float32], mean: float, std: float) -> float:
        """Return `error` of a row of which no more is known than a digest keeps.

        Args:
            logits: at `ids`, in that order.
            mean, std: over the whole row, which is finite.
        """
        found = logits.astype(np.float64)
        differences = np.abs(found - np.array([*self.top_logits, *self.sample_logits]))
        largest = max(float(differences.max()), abs(mean - self.mean), abs(std - self.std))
        return largest / self.std


@dataclass(frozen=True)
class GoldenCase:
    """A prompt and its greedy continuation by the eager quantized model.

    Greedy is the largest logit among ids that the tokenizer has (`sampling.greedy_id`); a stop id
    does not end it.

    Attributes:
        margins: for each id of the continuation, how far its logit is above the second largest,
            in units of that row's std.
        logits: digests of some or all rows that chose the continuation.
        forced_ids: tokens of a text that are fed after the prompt in place of the continuation,
            one fewer than it has; empty where each choice is fed back.
    """

    name: str
    prompt_ids: tuple[int, ...]
    continuation_ids: tuple[int, ...]
    margins: tuple[float, ...]
    logits: tuple[LogitsDigest, ...]
    forced_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt_ids or not self.continuation_ids:
            raise FieldError(f"case {self.name!r} needs a prompt and a continuation")
        if len(self.margins) != len(self.continuation_ids):
            raise FieldError(
                f"case {self.name!r}: {len(self.margins)} margins for "
                f"{len(self.continuation_ids)} continuation_ids"
            )
        if self.forced_ids and len(self.forced_ids) != len(self.continuation_ids) - 1:
            raise FieldError(
                f"case {self.name!r}: {len(self.forced_ids)} forced_ids for "
                f"{len(self.continuation_ids)} continuation_ids; one fewer is needed"
            )
        first = len(self.prompt_ids) - 1
        last = first + len(self.continuation_ids) - 1
        for digest in self.logits:
            if not first <= digest.position <= last:
                raise FieldError(
                    f"case {self.name!r}: digest of position {digest.position} is outside "
                    f"{first} to {last}"
                )

    @property
    def fed_ids(self) -> tuple[int, ...]:
        """The tokens fed after the prompt: each gives the row of the next step."""
        return self.forced_ids or self.continuation_ids[:-1]

    def digest(self, step: int) -> LogitsDigest | None:
        """Return the digest of the row that chose continuation id `step`, if recorded."""
        position = len(self.prompt_ids) - 1 + step
        return next((digest for digest in self.logits if digest.position == position), None)


@dataclass(frozen=True)
class Golden:
    """Everything recorded for one backend.

    Attributes:
        activation_quantization: what the eager model did to activations, as the backend does.
        attention_quantization: what it did to queries, keys and values, likewise.
        tolerance: largest error of a logit, in units of its row's std (docs/numerics.md).
    """

    tokenizer_cases: tuple[TokenizerCase, ...]
    chat_cases: tuple[ChatCase, ...]
    stop_ids: tuple[int, ...]
    activation_quantization: ActivationQuantization
    tolerance: float
    cases: tuple[GoldenCase, ...]
    attention_quantization: AttentionQuantization = "none"
    format_version: int = GOLDEN_FORMAT_VERSION

    def to_json(self) -> str:
        """Return the file's text: sorted keys, one line, equal values are equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Golden":
        """Read the file's text strictly.

        Raises:
            RunError: another format version, or a missing or wrong field.
        """
        try:
            document = load_object(text)
            found = document.get("format_version")
            if found != GOLDEN_FORMAT_VERSION:
                raise RunError(
                    f"golden answers: format version {found!r}, this pocketlm reads "
                    f"{GOLDEN_FORMAT_VERSION}; update pocketlm, or build the bundle again"
                )
            return read_as(cls, document)
        except FieldError as error:
            raise RunError(f"golden answers: {error}; build the bundle again") from error


def make_digest(logits: NDArray[np.float32], position: int) -> LogitsDigest:
    """Record a row of logits, [V]."""
    order = np.argsort(-logits, kind="stable")
    stride = max(1, len(logits) // SAMPLE_IDS)
    sample = np.arange(0, len(logits), stride)[:SAMPLE_IDS]
    return LogitsDigest(
        position=position,
        std=_short(np.std(logits, dtype=np.float64)),
        mean=_short(np.mean(logits, dtype=np.float64)),
        top_ids=tuple(int(i) for i in order[:TOP_IDS]),
        top_logits=_shortened(logits[order[:TOP_IDS]]),
        sample_ids=tuple(int(i) for i in sample),
        sample_logits=_shortened(logits[sample]),
    )


def greedy_margin(logits: NDArray[np.float32], limit: int) -> float:
    """Return how far the largest logit below `limit` is above the second, in units of std."""
    if min(limit, len(logits)) < 2:
        return float(np.finfo(np.float32).max)
    second, first = np.partition(logits[:limit], -2)[-2:].astype(np.float64)
    return _short((first - second) / np.std(logits, dtype=np.float64))


def _shortened(values: Sequence[np.float32] | NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(_short(value) for value in values)


def _short(value: np.floating[Any]) -> float:
    # Nine digits tell every float32 apart.
    return float(f"{float(value):.9g}")
