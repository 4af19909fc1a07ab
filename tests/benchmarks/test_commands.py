"""Commands in benchmarks' docstrings find what they import: benchmarks are installed nowhere."""

import ast
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
WITH_COMMAND = [p for p in sorted(FOLDER.glob("*.py")) if "\nCommand: " in p.read_text()]


@pytest.mark.parametrize("path", WITH_COMMAND, ids=lambda path: path.stem)
def test_command_finds_the_folder_of_benchmarks(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (command,) = re.findall(r"^Command: python (\S+(?: \S+)?)", ast.get_docstring(tree) or "", re.M)
    needs = any(
        isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmarks")
        for node in tree.body
    )
    as_module = f"-m benchmarks.{path.stem}"
    assert command.startswith(as_module if needs else f"benchmarks/{path.name}")
