"""What pinned releases of stock runtimes are known to read otherwise, and what an app can do.

One row a trait. A difference that no row explains is unknown, and `pocketlm lint` fails on it. The
tests on published tokenizers keep each row true: they fail when a row explains nothing any more.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from packaging.specifiers import SpecifierSet

What = Literal["text", "chat"]


@dataclass(frozen=True)
class KnownDifference:
    """One trait of one runtime.

    Attributes:
        versions: releases that were seen to have it.
        applies: says of a text, or of a chat's messages and variables as JSON, whether the trait
            touches it.
    """

    kind: str
    runtime: str
    versions: str
    what: What
    applies: Callable[[str], bool]
    reason: str
    advice: str


def _holds(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.search(pattern, text) is not None


def _is_not_nfc(text: str) -> bool:
    return not unicodedata.is_normalized("NFC", text)


_NFC_ADVICE = "normalize text to NFC before it is tokenized"
_RENDER_ADVICE = "render chats in the app, as `pocketlm run` does, and give the runner the text"

KNOWN = (
    KnownDifference(
        "text that is not NFC",
        "executorch",
        ">=1.5,<1.6",
        "text",
        _is_not_nfc,
        "its NFC normalizer drops combining marks, so executorch/tokenizer.json has none",
        _NFC_ADVICE,
    ),
    KnownDifference(
        "text that holds U+2581",
        "executorch",
        ">=1.5,<1.6",
        "text",
        _holds("\u2581"),
        "runs of spaces are merged there, not added tokens, so U+2581 merges with spaces",
        "replace U+2581 by a space in what users type",
    ),
    KnownDifference(
        "text that spells a byte token",
        "executorch",
        ">=1.5,<1.6",
        "text",
        _holds(r"^<0x[0-9A-F]{2}>$"),
        "a whole piece is looked up in the vocabulary before merging",
        "put a space before such a text",
    ),
    KnownDifference(
        "text that is not NFC",
        "genai",
        ">=0.18,<0.19",
        "text",
        _is_not_nfc,
        "it does not normalize",
        _NFC_ADVICE,
    ),
    KnownDifference(
        "text with NUL",
        "genai",
        ">=0.18,<0.19",
        "text",
        _holds("\0"),
        "NUL ends the text",
        "take NUL out of what users type",
    ),
    KnownDifference(
        "text that holds U+2581",
        "genai",
        ">=0.18,<0.19",
        "text",
        _holds("\u2581"),
        "runs of spaces are merged there, not added tokens, so U+2581 merges with spaces",
        "replace U+2581 by a space in what users type",
    ),
    KnownDifference(
        "32 or more spaces in a row",
        "genai",
        ">=0.18,<0.19",
        "text",
        _holds(r" {32,}"),
        "long runs of spaces are cut before merging",
        "the text stays the same, in other tokens; indent with fewer spaces or tabs",
    ),
    KnownDifference(
        "long text without a space or line break",
        "genai",
        ">=0.18,<0.19",
        "text",
        _holds(r"[^ \n]{90,}"),
        "such text is cut near 100 characters, and merges across the cut are lost",
        "the text stays the same, in other tokens; tokenize with another library if it matters",
    ),
    KnownDifference(
        "line breaks between white space",
        "genai",
        ">=0.18,<0.19",
        "text",
        _holds(r"\n[ \t]+\n"),
        "its own form of the pre-tokenizer's expression cuts behind the first line break",
        "the text stays the same, in other tokens; strip white space at the ends of lines",
    ),
    KnownDifference(
        "runs of punctuation or carriage returns",
        "genai",
        ">=0.18,<0.19",
        "text",
        _holds(r"[^\w\s]{2,}|\r"),
        "text is cut into pieces before merging where the tokenizer has no pre-tokenizer",
        "the text stays the same, in other tokens; tokenize with another library if it matters",
    ),
    KnownDifference(
        "chat with variables, such as enable_thinking",
        "genai",
        ">=0.18,<0.19",
        "chat",
        _holds(r'"enable_thinking"'),
        "its binding passes no variables to the template",
        _RENDER_ADVICE,
    ),
    KnownDifference(
        "chat with U+00A0, U+2028 or U+3000 around a message",
        "genai",
        ">=0.18,<0.19",
        "chat",
        _holds(r"[\u00a0\u2028\u3000]"),
        "`trim` leaves white space that is not ASCII",
        f"strip messages first, or {_RENDER_ADVICE}",
    ),
    KnownDifference(
        "control tokens in the text",
        "sentencepiece",
        ">=0.2",
        "text",
        _holds(r"<[^\s>]+>"),
        "tokenizer.model reads the text of a control token as letters",
        "use tokenizer.json, or put control tokens in as ids",
    ),
)


def explained(
    runtime: str, version: str, what: What, asked: str, known: tuple[KnownDifference, ...] = KNOWN
) -> KnownDifference | None:
    """Return the trait that explains why a runtime reads a text or chat otherwise."""
    for row in known:
        if (
            row.runtime == runtime
            and row.what == what
            and SpecifierSet(row.versions).contains(version, prereleases=True)
            and row.applies(asked)
        ):
            return row
    return None
