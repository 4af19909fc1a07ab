"""How stages report: (stage, done, total, what). Knows no terminal."""

from collections.abc import Callable

Advance = Callable[[str, int, int, str], None]


def silent(stage: str, done: int, total: int, what: str) -> None:
    """Report nothing."""
