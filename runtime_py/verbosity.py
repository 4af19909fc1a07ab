"""-v and -q, which every command takes: how much of its work it logs on stderr, by log level."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from pocketlm.runtime_py.terminal import LOGGER, say


class _ToTerminal(logging.Handler):
    """Prints records on stderr, escaped as everything else is."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            self.handleError(record)
            return
        is_warning = record.levelno >= logging.WARNING
        say(f"{record.levelname.lower()}: {text}" if is_warning else text, err=True)


@contextmanager
def command_logging() -> Iterator[None]:
    """Show what the library logs until the command ends; levels are then as they were."""
    level, propagates, handler = LOGGER.level, LOGGER.propagate, _ToTerminal()
    LOGGER.setLevel(logging.WARNING)
    LOGGER.addHandler(handler)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        LOGGER.propagate = propagates


def add_verbosity_options(command: click.Command) -> None:
    """Give a command, and each command below it, -v and -q."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_verbosity_options(below)
        return
    command.params += (
        click.Option(
            ("-v", "--verbose"),
            is_flag=True,
            expose_value=False,
            callback=_louder,
            help="Show details, and what the library does.",
        ),
        click.Option(
            ("-q", "--quiet"),
            is_flag=True,
            expose_value=False,
            callback=_quieter,
            help="Show results and errors alone: no progress, no notes.",
        ),
    )


def _louder(context: click.Context, option: click.Parameter, is_verbose: bool) -> None:
    if is_verbose:
        _set(context, "-v", logging.INFO)


def _quieter(context: click.Context, option: click.Parameter, is_quiet: bool) -> None:
    if is_quiet:
        _set(context, "-q", logging.ERROR)


def _set(context: click.Context, flag: str, level: int) -> None:
    other = context.meta.setdefault("pocketlm.verbosity", flag)
    if other != flag:
        raise click.UsageError(f"{other} and {flag}: give one of them", context)
    LOGGER.setLevel(level)
