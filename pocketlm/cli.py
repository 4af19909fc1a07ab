"""The command line: joins the packages' commands. Nothing imports it."""

import errno
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import click
from click.shell_completion import get_completion_class

import pocketlm.advisor.cli
import pocketlm.device_tests.cli
import pocketlm.edge_build.cli
import pocketlm.evaluation.cli
import pocketlm.models.cli
import pocketlm.runtime_py.cli
import pocketlm.training.cli
from pocketlm.device_tests.device.target import LostDeviceError, RefusedError
from pocketlm.device_tests.errors import DeviceError
from pocketlm.edge_build.errors import BuildError
from pocketlm.inspect_command import inspect
from pocketlm.models.errors import ModelError
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.process_tuning import process_tuning
from pocketlm.runtime_py.terminal import say_error
from pocketlm.runtime_py.verbosity import add_verbosity_options, command_logging

_WRONG_INPUT, _DEVICE_FAILED = 2, 3
# What a shell reports for a program that Ctrl-C ended.
_INTERRUPTED = 130
# click's own name for the variable by which a shell asks for completions.
_COMPLETE = "_POCKETLM_COMPLETE"


class PocketlmGroup(click.Group):
    """Shows an error without a traceback; 2 is a user's mistake, 3 a device's, 130 Ctrl-C."""

    def invoke(self, context: click.Context) -> Any:
        try:
            with process_tuning(), command_logging():
                return super().invoke(context)
        except (LostDeviceError, RefusedError) as error:
            self._fail(str(error), _DEVICE_FAILED)
        except (ModelError, BuildError, RunError, DeviceError) as error:
            self._fail("; ".join((str(error), *_notes(error))))
        except KeyboardInterrupt as error:
            self._fail("; ".join(("interrupted", *_notes(error))), _INTERRUPTED)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                where = error.filename or "no file named"
                self._fail(f"the disk is full ({where}); make room and run the command again")
            raise

    def _fail(self, message: str, status: int = _WRONG_INPUT) -> None:
        say_error(message)
        sys.exit(status)


def _notes(error: BaseException) -> tuple[str, ...]:
    """Return what was added on the error's way up, such as how to continue."""
    return tuple(getattr(error, "__notes__", ()))


@click.group(
    "pocketlm",
    cls=PocketlmGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a check failed, 2 wrong input, 3 a device failed, 130 Ctrl-C. "
    'Tab completes commands after: eval "$(pocketlm completion bash)"',
)
@click.version_option(package_name="pocketlm")
def main() -> None:
    """Build, run, verify and profile language models for phones.

    \b
    pocketlm build pico --out bundle             make a device bundle
    pocketlm verify bundle                       prove that it is right
    pocketlm run bundle -p 'What is a list?'     run it as a device would
    pocketlm export bundle --for genai --out app the files that an app ships
    pocketlm fit gemma-3-1b --device phone-6gb   the memory that it will need
    pocketlm profile bundle --on adb             run it on a phone
    pocketlm advise ./gemma --text book.txt      which quantization to take
    """


# What each list shows: a module, and the tuple or function in it.
_LISTS = {
    "backends": "pocketlm.edge_build.backends:names",
    "families": "pocketlm.models.families:NAMES",
    "methods": "pocketlm.edge_build.quantization.methods:names",
    "profiles": "pocketlm.device_tests.fit.memory_budget:NAMES",
    "recipes": "pocketlm.edge_build.quantization.recipes:NAMES",
    "shapes": "pocketlm.models.shapes:NAMES",
    "targets": "pocketlm.device_tests.device.targets:NAMES",
}
# Rows that say more than names do.
_DETAILS: dict[str, Callable[[], Sequence[Mapping[str, str | int]]]] = {
    "families": pocketlm.models.cli.list_families,
    "shapes": pocketlm.models.cli.list_shapes,
}


@main.command("list", short_help="List recipes, shapes, families, backends and so on.")
@click.argument("what", type=click.Choice(sorted(_LISTS)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(what: str, as_json: bool) -> None:
    """List recipes, shapes, families, backends and so on. Profiles are classes of phones for `fit`.

    \b
    pocketlm list recipes
    pocketlm list shapes --json
    """
    module, _, name = _LISTS[what].partition(":")
    listed: Any = getattr(import_module(module), name)
    names: tuple[str, ...] = listed() if callable(listed) else listed
    details = _DETAILS[what]() if what in _DETAILS else [{"name": name} for name in names]
    if as_json:
        click.echo(json.dumps({what: list(names), "details": details}))
        return
    for row in details:
        said = [_shown(key, value) for key, value in row.items() if key != "name" and value]
        click.echo(f"{row['name']:20} {', '.join(said)}".rstrip())


def _shown(key: str, value: str | int) -> str:
    if isinstance(value, int):
        return f"{value:,} {key.replace('_', ' ')}"
    return value


@main.command(short_help="Print what makes a shell complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands and options with Tab in SHELL.

    \b
    eval "$(pocketlm completion bash)"                   in ~/.bashrc
    eval "$(pocketlm completion zsh)"                    in ~/.zshrc
    pocketlm completion fish > ~/.config/fish/completions/pocketlm.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, f"click has no completion for {shell}"
    click.echo(kind(main, {}, "pocketlm", _COMPLETE).source())


for command in (
    *pocketlm.edge_build.cli.COMMANDS,
    *pocketlm.models.cli.COMMANDS,
    *pocketlm.runtime_py.cli.COMMANDS,
    *pocketlm.device_tests.cli.COMMANDS,
    *pocketlm.evaluation.cli.COMMANDS,
    *pocketlm.training.cli.COMMANDS,
    *pocketlm.advisor.cli.COMMANDS,
    # In place of runtime_py's, which knows bundles alone.
    inspect,
):
    main.add_command(command)
add_verbosity_options(main)
