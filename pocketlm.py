"""The command line: joins the packages' commands. Nothing imports it."""

import errno
import sys
from typing import Any

import click

import edge_build.cli
import models.cli
import runtime_py.cli
from edge_build.errors import BuildError
from models.errors import ModelError
from runtime_py.errors import RunError


class PocketlmGroup(click.Group):
    """Shows a user's mistake without a traceback, with exit code 2."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (ModelError, BuildError, RunError) as error:
            self._fail("; ".join((str(error), *_notes(error))))
        except KeyboardInterrupt as error:
            self._fail("; ".join(("interrupted", *(_notes(error) or ("nothing was written",)))))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._fail(f"the disk is full ({error.filename or 'no file named'}); nothing kept")
            raise

    def _fail(self, message: str) -> None:
        click.echo(f"error: {message}", err=True)
        sys.exit(2)


def _notes(error: BaseException) -> tuple[str, ...]:
    """Return what was added on the error's way up, such as how to continue."""
    return tuple(getattr(error, "__notes__", ()))


@click.group(
    "pocketlm", cls=PocketlmGroup, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="pocketlm")
def main() -> None:
    """Build, run and verify language models for phones.

    \b
    pocketlm build models/pico --out pico       a device bundle for ExecuTorch and ONNX Runtime
    pocketlm verify pico                        prove that both artifacts are right
    pocketlm run pico --prompt 'Return a list'  run one as the device would
    """


for command in (*edge_build.cli.COMMANDS, *models.cli.COMMANDS, *runtime_py.cli.COMMANDS):
    main.add_command(command)


if __name__ == "__main__":
    main()
