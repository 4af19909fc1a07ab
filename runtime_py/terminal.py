"""What reaches a terminal: text from files and devices is escaped here, so that none commands it.

A manifest, a template or a device may say anything: escape sequences, characters that turn the
direction of what follows, markup of the library that draws tables.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

# What the library tells; -v and -q of the commands are its levels.
LOGGER = logging.getLogger("pocketlm")

# Room for the longest path and advice. What libraries say may quote the whole of a file.
_LONGEST_LINE = 1000
_SPACES = str.maketrans("\n\t\r", "   ")


def printable(text: str) -> str:
    """Return text with every character escaped that is not shown, but for ends of lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def printable_line(text: str) -> str:
    """Return the same on one line: ends of lines and tabs become spaces, in cells and drawings."""
    return printable(text.translate(_SPACES))


def one_line(message: str) -> str:
    """Return a message on one line, cut in its middle where a file's content makes it endless."""
    line = " ".join(message.splitlines())
    if len(line) <= _LONGEST_LINE:
        return line
    # The beginning says what is wrong, the end what to do.
    half = _LONGEST_LINE // 2
    return f"{line[:half]} … {line[-half:]}"


def is_quiet() -> bool:
    """Say whether progress and notes are unwanted: -q."""
    return not LOGGER.isEnabledFor(logging.WARNING)


def is_verbose() -> bool:
    """Say whether details are wanted: -v."""
    return LOGGER.isEnabledFor(logging.INFO)


def say(*lines: str, err: bool = False) -> None:
    """Print lines on stdout, or notes on stderr."""
    if err and is_quiet():
        return
    for line in lines:
        click.echo(printable(line), err=err)


def say_error(message: str) -> None:
    """Print a mistake on stderr, on one line."""
    click.echo(printable(f"error: {one_line(message)}"), err=True)


def bar_text(text: str) -> str:
    """Return text for a bar, which takes markup and is drawn past the console's escaping."""
    from rich.markup import escape

    return escape(printable(text))


def make_console(*, stderr: bool = False, soft_wrap: bool = False) -> "Console":
    """Return a console that escapes whatever it prints and takes no markup.

    What goes to stderr is progress and notes: nothing is shown with -q.
    """
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
    from rich.measure import Measurement
    from rich.segment import Segment

    class Escaped:
        def __init__(self, inside: ConsoleRenderable) -> None:
            self.inside = inside

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for segment in console.render(self.inside, options):
                # Control segments are rich's own: they move the cursor of a progress bar.
                is_ours = segment.control is not None
                yield segment if is_ours else Segment(printable(segment.text), segment.style)

        def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
            return Measurement.get(console, options, self.inside)

    class Escaping(RenderHook):
        def process_renderables(
            self, renderables: Iterable[ConsoleRenderable]
        ) -> list[ConsoleRenderable]:
            return [Escaped(renderable) for renderable in renderables]

    quiet = stderr and is_quiet()
    console = Console(
        stderr=stderr, quiet=quiet, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False
    )
    console.push_render_hook(Escaping())
    return console


@contextmanager
def step_bar(command: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar on stderr during the block; it is told (done, total, what is at work)."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    console = make_console(stderr=True)
    # In a file it would be one empty line.
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(command, total=None)

        def advance(done: int, total: int, what: str) -> None:
            description = bar_text(f"{command} {what}".rstrip())
            progress.update(task, completed=done, total=total, description=description)

        yield advance


def share_text(part: int, whole: int) -> str:
    """Return a share in percent with a decimal; 100 % is said only of all."""
    return f"{min(100 * part / whole, 99.9 if part < whole else 100):.1f} %"
