"""The error that a user of the models package can cause, and how it shows what was found."""

import difflib
import reprlib
from collections.abc import Sequence

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 60
_LONGEST_TEXT = 200


class ModelError(Exception):
    """A checkpoint, config or shape that cannot be used; shown without a traceback."""


def shown(value: object) -> str:
    """Return a value from a file for a message: short and printable, however it is."""
    return _SHOWN.repr(value)


def shortened(text: str) -> str:
    """Return what a library said, cut to a line: it may quote the whole of a file."""
    text = " ".join(text.splitlines())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def nearest_and_known(name: str, known: Sequence[str]) -> str:
    """Return what a message says of a name that is none of the known."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return f"the nearest known is {nearest!r}, and all known are {', '.join(known)}"
