"""What a reader file must offer: one constant, READER, found by file name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketlm.runtime_py.lint.known_differences import KnownDifference

# Pairs of messages and variables.
Chats = Sequence[tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]]


@dataclass(frozen=True)
class Questions:
    """What every reader is asked."""

    texts: Sequence[str]
    chats: Chats


@dataclass(frozen=True)
class ReaderOutput:
    """What a reader makes of the questions, in their order.

    Attributes:
        ids: of each text, nothing added; None where the reader failed.
        decoded: the text of these ids, control tokens left out or not, as the reader does it; None
            where it cannot be asked.
        chats: rendered; None where the reader failed. Empty where it renders none.
        errors: first line of the first failure of each kind, for people.
    """

    ids: Sequence[Sequence[int] | None]
    decoded: Sequence[str | None]
    chats: Sequence[str | None] = ()
    errors: Sequence[str] = ()


@dataclass(frozen=True)
class Reader:
    """A tokenizer, and perhaps a template engine, of one runtime.

    Attributes:
        distribution: whose version says how it reads.
        files: relative to the bundle; a bundle without one of them is not read.
        answer: bundle folder, questions → output. Runs in a process of its own.
        runs_bundles: False where the runtime reads such a tokenizer from files of its own; then it
            is asked by `pocketlm lint` alone, and what it reads otherwise fails nothing.
        needs: other distributions without which it is not asked.
        known: what it is known to read otherwise.
    """

    name: str
    distribution: str
    files: tuple[str, ...]
    answer: Callable[[Path, Questions], ReaderOutput]
    runs_bundles: bool = True
    needs: tuple[str, ...] = ()
    known: tuple[KnownDifference, ...] = ()
