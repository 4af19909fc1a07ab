"""Everything that commands print goes through runtime_py/terminal.py, which escapes it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *(ROOT / "device_tests" / "commands").glob("*.py"),
    *(ROOT / "runtime_py" / "commands").glob("*.py"),
    *(ROOT / "edge_build").glob("*.py"),
    *(ROOT / "evaluation").glob("*.py"),
    *(ROOT / "advisor").glob("*.py"),
    ROOT / "pocketlm" / "cli.py",
]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_command_makes_no_console_of_its_own(path: Path) -> None:
    assert not re.search(r"\bConsole\(", path.read_text())


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_command_prints_no_message_past_the_escaping(path: Path) -> None:
    text = path.read_text()
    # Figures and documents in ASCII may go to click directly; errors and names may not.
    assert not re.search(r"click\.echo\(f?\"(error|warning|note)", text)
    assert not re.search(r"click\.echo\((text|line|message|shown)[,)]", text)
