"""`pocketlm checkpoint` and what `list` shows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pocketlm.models import families, shapes
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.models.cli import COMMANDS, checkpoint_command, list_families, list_shapes
from pocketlm.models.errors import ModelError
from pocketlm.models.shapes import Shape


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch: pytest.MonkeyPatch, small_shape: Shape) -> None:
    known = shapes.load
    monkeypatch.setattr(
        shapes, "load", lambda name: small_shape if name == "small" else known(name)
    )


def test_the_command_writes_a_checkpoint_and_says_where(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(
        checkpoint_command, ["small", "--random", "--out", str(out), "--layers", "2"]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{out}: small with random weights, 2 layers")
    assert result.stderr == ""
    assert open_checkpoint(out).config.num_layers == 2


def test_json_is_one_document_with_units(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(
        checkpoint_command, ["small", "--random", "--out", str(out), "--seed", "5", "--json"]
    )
    document = json.loads(result.stdout)
    assert document["folder"] == str(out)
    assert document["seed"] == 5
    assert document["size_bytes"] == 2 * document["parameters"]


def test_random_must_be_asked_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(checkpoint_command, ["small", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "add --random" in result.stderr
    assert not (tmp_path / "out").exists()


def test_mistakes_pass_through_as_model_errors(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        checkpoint_command, ["gemma-3-1x", "--random", "--out", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, ModelError)
    assert "nearest known is 'gemma-3-1b'" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_help_shows_examples() -> None:
    for command in COMMANDS:
        assert "Examples:" in CliRunner().invoke(command, ["--help"]).output


def test_families_and_shapes_are_listed() -> None:
    assert [row["name"] for row in list_families()] == list(families.NAMES)
    rows = {row["name"]: row for row in list_shapes()}
    assert list(rows) == list(shapes.NAMES)
    assert rows["gemma-3-1b"]["parameters"] == 999_885_952
    assert "stand-in" in str(rows["nano-1.8b-standin"]["note"])


def test_the_command_line_and_the_lists_import_nothing_heavy() -> None:
    script = (
        "import sys, pocketlm.models.cli as cli; cli.list_families(); cli.list_shapes();"
        "print([name for name in ('torch', 'numpy', 'rich', 'safetensors', 'tokenizers')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
