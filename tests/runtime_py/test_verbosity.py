"""-v and -q mean the same in every command, and levels are as before when it ends."""

import logging
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pocketlm import main
from pocketlm.runtime_py.terminal import LOGGER, is_quiet, is_verbose, make_console, say, say_error
from pocketlm.runtime_py.verbosity import add_verbosity_options, command_logging


@click.group()
def group() -> None:
    """Stand for the command line."""


@group.command()
def speak() -> None:
    """Say something of every kind."""
    click.echo("result")
    say("note", err=True)
    make_console(stderr=True).print("progress")
    logging.getLogger("pocketlm.part").warning("odd \x1b[31m")
    logging.getLogger("pocketlm.part").info("%s of %d", "work", 7)
    say_error("mistake")


add_verbosity_options(group)


def spoken(*flags: str) -> Result:
    with command_logging():
        return CliRunner().invoke(group, ["speak", *flags])


def test_without_flags_notes_and_warnings_are_shown() -> None:
    lines = spoken().stderr.splitlines()
    assert lines == ["note", "progress", "warning: odd \\x1b[31m", "error: mistake"]


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
def test_verbose_shows_what_the_library_does(flag: str) -> None:
    assert "work of 7" in spoken(flag).stderr.splitlines()


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_leaves_results_and_errors(flag: str) -> None:
    result = spoken(flag)
    assert result.stdout == "result\n"
    assert result.stderr == "error: mistake\n"


@pytest.mark.parametrize("flags", [("-v", "-q"), ("-q", "-v")])
def test_both_at_once_are_refused(flags: tuple[str, str]) -> None:
    result = spoken(*flags)
    assert result.exit_code == 2
    assert f"{flags[0]} and {flags[1]}: give one of them" in result.stderr


def test_levels_and_handlers_are_as_before_when_a_command_ends() -> None:
    before = LOGGER.level, list(LOGGER.handlers), LOGGER.propagate
    CliRunner().invoke(main, ["list", "recipes", "-q"])
    assert (LOGGER.level, LOGGER.handlers, LOGGER.propagate) == before
    assert not is_quiet() and not is_verbose()


def commands_of(command: click.Command, name: str = "") -> Iterator[Any]:
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from commands_of(below, f"{name} {below.name}")
    else:
        yield pytest.param(command, id=name)


@pytest.mark.parametrize("command", commands_of(main))
def test_every_command_takes_both_once(command: click.Command) -> None:
    flags = [flag for option in command.params for flag in option.opts]
    assert flags.count("-v") == flags.count("-q") == 1


def test_a_quiet_run_prints_the_answer_alone(fake_bundle: Any) -> None:
    loud = CliRunner().invoke(
        main, ["run", str(fake_bundle.folder), "--raw", "-p", "ab", "-n", "2"]
    )
    quiet = CliRunner().invoke(
        main, ["run", str(fake_bundle.folder), "--raw", "-p", "ab", "-n", "2", "-q"]
    )
    assert "prompt" in loud.stderr and quiet.stderr == ""
    assert quiet.stdout == loud.stdout


def test_a_verbose_run_says_what_was_loaded(fake_bundle: Any) -> None:
    shown = CliRunner().invoke(
        main, ["run", str(fake_bundle.folder), "--raw", "-p", "ab", "-n", "2", "-v"]
    )
    assert f"{fake_bundle.folder}: onnx loaded in " in shown.stderr
