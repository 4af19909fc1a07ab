"""What pinned releases of stock runtimes are known to read otherwise, and what an app can do.

One row a trait; each stands with the runtime's reader. A difference that no row explains is
unknown, and `pocketlm lint` fails on it. The tests on published tokenizers keep each row true: they
fail when a row explains nothing any more.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
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
    versions: str
    what: What
    applies: Callable[[str], bool]
    reason: str
    advice: str


def holds(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a text holds an expression."""
    return lambda text: re.search(pattern, text) is not None


def is_not_nfc(text: str) -> bool:
    """Say whether NFC would change a text."""
    return not unicodedata.is_normalized("NFC", text)


NFC_ADVICE = "normalize text to NFC before it is tokenized"
RENDER_ADVICE = "render chats in the app, as `pocketlm run` does, and give the runner the text"


def explained(
    known: Sequence[KnownDifference], version: str, what: What, asked: str
) -> KnownDifference | None:
    """Return the trait that explains why a runtime reads a text or chat otherwise."""
    for row in known:
        if (
            row.what == what
            and SpecifierSet(row.versions).contains(version, prereleases=True)
            and row.applies(asked)
        ):
            return row
    return None
