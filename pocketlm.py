"""The command line: joins the packages' commands. Nothing imports it."""

import errno
import json
import sys
from importlib import import_module
from typing import Any

import click

import device_tests.cli
import edge_build.cli
import models.cli
import runtime_py.cli
from device_tests.errors import DeviceError
from device_tests.target import LostDeviceError, RefusedError
from edge_build.errors import BuildError
from models.errors import ModelError
from runtime_py.errors import RunError

_WRONG_INPUT, _DEVICE_FAILED = 2, 3


class PocketlmGroup(click.Group):
    """Shows a user's mistake without a traceback, with exit code 2, and a device's with 3."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (LostDeviceError, RefusedError) as error:
            self._fail(str(error), _DEVICE_FAILED)
        except (ModelError, BuildError, RunError, DeviceError) as error:
            self._fail("; ".join((str(error), *_notes(error))))
        except KeyboardInterrupt as error:
            self._fail("; ".join(("interrupted", *(_notes(error) or ("nothing was written",)))))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._fail(f"the disk is full ({error.filename or 'no file named'}); nothing kept")
            raise

    def _fail(self, message: str, status: int = _WRONG_INPUT) -> None:
        click.echo(f"error: {message}", err=True)
        sys.exit(status)


def _notes(error: BaseException) -> tuple[str, ...]:
    """Return what was added on the error's way up, such as how to continue."""
    return tuple(getattr(error, "__notes__", ()))


@click.group(
    "pocketlm", cls=PocketlmGroup, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="pocketlm")
def main() -> None:
    """Build, run, verify and profile language models for phones.

    \b
    pocketlm build models/pico --out pico       a device bundle for ExecuTorch and ONNX Runtime
    pocketlm verify pico                        prove that both artifacts are right
    pocketlm run pico --prompt 'Return a list'  run one as the device would
    pocketlm fit gemma-3-1b --device phone-6gb  what it will need, before anything is built
    pocketlm profile pico --on adb              run it on a phone: where every megabyte went
    """


# What each list shows is in a module of that package, under NAMES.
_LISTS = {
    "backends": "edge_build.backends",
    "families": "models.families",
    "profiles": "device_tests.rooms",
    "recipes": "edge_build.quantization.recipes",
    "shapes": "models.shapes",
    "targets": "device_tests.targets",
}


@main.command("list")
@click.argument("what", type=click.Choice(sorted(_LISTS)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(what: str, as_json: bool) -> None:
    """List what pocketlm knows: profiles are classes of phones for `fit`.

    \b
    pocketlm list recipes
    pocketlm list shapes --json
    """
    names: tuple[str, ...] = import_module(_LISTS[what]).NAMES
    click.echo(json.dumps({what: list(names)}) if as_json else "\n".join(names))


for command in (
    *edge_build.cli.COMMANDS,
    *models.cli.COMMANDS,
    *runtime_py.cli.COMMANDS,
    *device_tests.cli.COMMANDS,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
