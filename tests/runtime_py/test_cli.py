"""The commands of runtime_py together."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from pocketlm.runtime_py.cli import COMMANDS
from tests.runtime_py.commands.program import PROGRAM


def test_the_commands_have_their_names() -> None:
    assert {command.name for command in COMMANDS} == {
        "inspect",
        "run",
        "chat",
        "bench",
        "verify",
        "lint",
        "export",
        "cache",
    }


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys, pocketlm.runtime_py.cli\n"
        "heavy = {'numpy', 'tokenizers', 'jinja2', 'rich', 'packaging'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", sorted(str(command.name) for command in COMMANDS))
def test_each_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(PROGRAM, [command, "--help"])
    assert result.exit_code == 0
    assert f"pocketlm {command}" in result.stdout


def test_a_closed_pipe_is_quiet() -> None:
    """As `pocketlm run … | head -c 1` does it."""
    code = (
        "import click\n"
        "from pocketlm.runtime_py.commands.runner import write\n"
        "@click.command()\n"
        "def program():\n"
        "    while True:\n"
        "        write('x' * 65536)\n"
        "program()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1
