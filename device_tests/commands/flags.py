"""Command line flags that several commands share, and how they show progress."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pocketlm.device_tests.profiling.pipeline import ProgressCallbacks

target_option = click.option(
    "--on",
    "target_name",
    required=True,
    metavar="TARGET",
    help="adb (the only device), adb:SERIAL, ssh:HOST or host; `pocketlm devices` lists them.",
)


@contextmanager
def shown_progress() -> "Iterator[ProgressCallbacks]":
    """Show on stderr what a device is sent and what its runner says."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from pocketlm.device_tests.profiling.pipeline import ProgressCallbacks
    from pocketlm.runtime_py.terminal import bar_text, make_console

    console = make_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None, visible=False)

        def sending(done: int, total: int, name: str) -> None:
            shown = bar_text(f"sending {name}")
            progress.update(task, completed=done, total=total, description=shown, visible=True)

        def step(what: str) -> None:
            progress.update(task, visible=False)
            console.print(what)

        def line(text: str) -> None:
            said = _phase_said(text)
            if said:
                step(said)

        yield ProgressCallbacks(step, sending, line)


def _phase_said(line: str) -> str:
    """Return what a line of the runner says of a phase's end; its other lines are too many."""
    from pocketlm.device_tests.memory.events import read_events
    from pocketlm.device_tests.quantities import size_text

    said = [
        f"  {mark.phase}: at most {size_text(mark.peak_bytes)} resident"
        for mark in read_events(line).phases
    ]
    return "".join(said)
