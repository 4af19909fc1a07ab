"""Who is told how far measuring is: nobody, the log, or a terminal."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from pocketlm.edge_build.progress import Notify, ignore
from pocketlm.evaluation.evaluation import Advance

_LOG = logging.getLogger("pocketlm.advisor")


class Watch(Protocol):
    """Is told what happens."""

    def say(self, line: str) -> None:
        """Take one line."""
        ...

    def building(self) -> AbstractContextManager[Notify]:
        """Take the events of a build during the block."""
        ...

    def evaluating(self) -> AbstractContextManager[Advance]:
        """Take the progress of an evaluation during the block."""
        ...


class NoWatch:
    """Takes everything and shows nothing."""

    def say(self, line: str) -> None:
        """Do nothing."""

    @contextmanager
    def building(self) -> Iterator[Notify]:
        """Give what ignores events."""
        yield ignore

    @contextmanager
    def evaluating(self) -> Iterator[Advance]:
        """Give what ignores progress."""
        yield lambda done, total, what: None


class LogWatch(NoWatch):
    """Logs lines."""

    def say(self, line: str) -> None:
        """Log a line."""
        _LOG.info("%s", line)
