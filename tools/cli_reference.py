"""Writes docs/cli.md from the commands themselves: python -m tools.cli_reference."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from pocketlm import main

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
_HEAD = """\
# Commands

`python -m tools.cli_reference` writes this page from the help of the commands. Exit codes: 0 done,
1 a check failed, 2 wrong input, 3 a device failed, 130 Ctrl-C. Results go to stdout, progress and
notes to stderr. Every command also takes `-h`, `-v` (details and the log of the library) and `-q`
(results and errors only).
"""
# Of every command; said once, at the top.
_EVERYWHERE = ("verbose", "quiet")


def render() -> str:
    """Return the page, Markdown."""
    names = sorted(main.commands)
    contents = ", ".join(f"[{name}](#pocketlm-{name})" for name in names)
    sections = (section(name, main.commands[name]) for name in names)
    return "\n".join((_HEAD, contents, "", *sections))


def section(name: str, command: click.Command) -> str:
    """Return what the page says of one command."""
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [
        p
        for p in command.params
        if isinstance(p, click.Option) and not p.hidden and p.name not in _EVERYWHERE
    ]
    usage = " ".join(("pocketlm", name, "[OPTIONS]", *map(_argument, arguments)))
    lines = [f"## pocketlm {name}", "", f"`{usage}`", "", *_help(command)]
    if options:
        lines += ["", "| option | |", "|---|---|", *map(_row, options)]
    return "\n".join((*lines, ""))


def _argument(argument: click.Argument) -> str:
    named = argument.metavar or (argument.name or "").upper()
    return named if argument.required or named.startswith("[") else f"[{named}]"


def _help(command: click.Command) -> Iterator[str]:
    """Yield the help's paragraphs; what click keeps line by line becomes a block of code."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from ("```", paragraph.removeprefix("\b\n"), "```")
        else:
            yield " ".join(paragraph.split("\n"))
            yield ""


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" {_value(option)}"
    said = option.help or ""
    if option.show_default and option.default is not None:
        said = f"{said} Default: {option.default}."
    return f"| {names}{value} | {said} |".replace("<", "&lt;")


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar.replace("|", " or ")
    if isinstance(option.type, click.Choice):
        return " or ".join(str(choice) for choice in option.type.choices)
    return {"integer range": "N", "integer": "N", "float range": "X", "float": "X"}.get(
        option.type.name, option.type.name.upper()
    )


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
