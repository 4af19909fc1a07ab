"""What a repair file must offer: one constant, REPAIR, found by file name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer's two files, parsed."""

    tokenizer: Document
    config: Document


@dataclass(frozen=True)
class Repair:
    """A change of tokenizer.json that a stock runner needs.

    It is decided by what the file says, never by a model's name, and applied only if the
    `tokenizers` library gives the same ids before and after on all edge-case texts it holds for.

    Attributes:
        reason: what the runner makes of the published file.
        apply: the changed files; None where there is nothing to change.
        holds_for: says of which texts it must change no id.
    """

    reason: str
    apply: Callable[[Tokenizer], Tokenizer | None]
    holds_for: Callable[[str], bool]
