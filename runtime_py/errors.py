"""The error that a user of a bundle can cause, and what it says of an unknown name."""

import difflib
from collections.abc import Sequence


class RunError(Exception):
    """A bundle, prompt or option that cannot be used; shown without a traceback."""


def unknown_name(option: str, name: str, known: Sequence[str]) -> str:
    """Return the message on an option's value that is none of the known: the nearest, and all."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"{option} {name}: unknown{hint} known: {', '.join(known)}"
