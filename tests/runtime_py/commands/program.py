"""The commands of runtime_py as one program, for tests."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import click
from click.testing import Result

from pocketlm.runtime_py.cli import COMMANDS
from pocketlm.runtime_py.errors import RunError


class Program(click.Group):
    """Shows a RunError as the program does."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except RunError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)


PROGRAM = Program(commands=list(COMMANDS))
Invoke = Callable[..., Result]


def press_ctrl_c_at_run(number: int) -> Callable[[Any], None]:
    def press(model: Any) -> None:
        if len(model.calls) == number:
            os.kill(os.getpid(), signal.SIGINT)

    return press
