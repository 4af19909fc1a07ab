"""Shows on stderr how far measuring is."""

from collections.abc import Iterator
from contextlib import contextmanager

from pocketlm.edge_build.progress import Notify
from pocketlm.edge_build.progress_display import shown_progress
from pocketlm.evaluation.evaluation import Advance
from pocketlm.runtime_py.terminal import say, step_bar


class TerminalWatch:
    """Lines, and bars where there is a terminal."""

    def say(self, line: str) -> None:
        """Print a line."""
        say(line, err=True)

    @contextmanager
    def building(self) -> Iterator[Notify]:
        """Show a build as `pocketlm build` does."""
        with shown_progress() as shown:
            yield shown.notify

    @contextmanager
    def evaluating(self) -> Iterator[Advance]:
        """Show an evaluation as `pocketlm eval` does."""
        with step_bar("evaluate") as advance:
            yield advance
