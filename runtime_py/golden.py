"""Golden answers: what an artifact must reproduce, recorded at build time.

The reader owns the format. One file per backend, golden/BACKEND.json.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pocketlm.runtime_py.golden_cases import GoldenCase, PlacedCase
from pocketlm.runtime_py.manifest import ActivationQuantization, AttentionQuantization
from pocketlm.runtime_py.recorded_document import read_recorded
from pocketlm.runtime_py.typed_json import FieldError

GOLDEN_FORMAT_VERSION = 2


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
class Golden:
    """Everything recorded for one backend.

    Attributes:
        activation_quantization: what the eager model did to activations, as the backend does.
        attention_quantization: what it did to queries, keys and values, likewise.
        tolerance: largest error of a logit, in units of its row's std (docs/numerics.md).
        exact_tolerance: the same for an artifact that runs without rounded activations.
        placed_cases: tokens at chosen positions.
        moment: the local time that templates read in the chats, in ISO 8601; None in bundles that
            older versions built, where it was the time of the build.
    """

    tokenizer_cases: tuple[TokenizerCase, ...]
    chat_cases: tuple[ChatCase, ...]
    stop_ids: tuple[int, ...]
    activation_quantization: ActivationQuantization
    tolerance: float
    exact_tolerance: float
    cases: tuple[GoldenCase, ...]
    placed_cases: tuple[PlacedCase, ...] = ()
    attention_quantization: AttentionQuantization = "none"
    moment: str | None = None
    format_version: int = GOLDEN_FORMAT_VERSION

    def __post_init__(self) -> None:
        try:
            datetime.fromisoformat(self.moment or "2000-01-01")
        except ValueError as error:
            raise FieldError(f"moment: {self.moment!r} is no time in ISO 8601") from error

    def to_json(self) -> str:
        """Return the file's text: sorted keys, one line, equal values are equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Golden":
        """Read the file's text strictly.

        Raises:
            RunError: another format version, or a missing or wrong field.
        """
        return read_recorded(cls, text, GOLDEN_FORMAT_VERSION, "golden answers")
