"""What a user of `chat` types: messages of one or several lines, and commands."""

import difflib
import re
import sys
from contextlib import suppress
from dataclasses import dataclass

import click

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.terminal import say_error

COMMANDS = {
    "/help": "shows this",
    "/undo": "takes the last message and its answer back",
    "/retry": "asks the last message again",
    "/reset": "begins anew, with the system message only",
    "/exit": "ends, as do exit, quit and Ctrl-D",
}
BLOCK = '"""'
_COMMAND = re.compile(r"/[\w?-]*")
_ENDS = ("/exit", "/quit", "/bye", "exit", "quit")


@dataclass(frozen=True)
class Typed:
    """One message or one command; `text` of a command is its name from COMMANDS."""

    text: str
    is_command: bool = False


def help_text() -> str:
    """Return what /help shows."""
    rows = [f"{name:8} {what}" for name, what in COMMANDS.items()]
    rows.append(f"{BLOCK:8} on a line of its own begins and ends a message of several lines")
    rows.append("Ctrl-C   ends an answer; a message that begins with / needs a space before it")
    return "\n".join(rows)


def next_typed() -> Typed | None:
    """Return the next message or command; None at the end. Answers what is neither by itself.

    Raises:
        KeyboardInterrupt: Ctrl-C at the prompt.
    """
    while True:
        try:
            line = _read_line("> ")
            if line is None:
                return None
            if line.strip() == BLOCK:
                return Typed(_read_block())
            typed = _understood(line)
        except RunError as error:
            say_error(str(error))
            continue
        if typed is not None:
            return typed


def _understood(line: str) -> Typed | None:
    """Return what a line means; None for an empty one.

    Raises:
        RunError: it looks like a command and is none.
    """
    text = line.strip()
    if text.lower() in _ENDS:
        return Typed("/exit", is_command=True)
    word = text.split(maxsplit=1)[0] if text else ""
    # A space before it sends it, and a path has a second slash.
    if not line.startswith("/") or not _COMMAND.fullmatch(word):
        return Typed(text) if text else None
    if text in COMMANDS:
        return Typed(text, is_command=True)
    near = difflib.get_close_matches(word, COMMANDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(COMMANDS)};"
    raise RunError(f"{text}: no such command; {hint} to send it, put a space before it")


def _read_block() -> str:
    lines: list[str] = []
    while (line := _read_line("… ")) is not None and line.strip() != BLOCK:
        lines.append(line)
    return "\n".join(lines)


def _read_line(prompt: str) -> str | None:
    """Return a line without its end, or several that were pasted at once; None at the end.

    Raises:
        RunError: it is not UTF-8.
    """
    from pocketlm.runtime_py.utf8 import decode_utf8

    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # gives input() line editing and history

            # Python switches it off; without it, a pasted text is sent line by line.
            readline.parse_and_bind("set enable-bracketed-paste on")
        try:
            return input(prompt)
        except EOFError:
            click.echo("", err=True)
            return None
        except UnicodeDecodeError as error:
            raise RunError(f"the message is not valid UTF-8 ({error}); type it again") from error
    data = sys.stdin.buffer.readline()
    return decode_utf8(data, "the message").rstrip("\r\n") if data else None
