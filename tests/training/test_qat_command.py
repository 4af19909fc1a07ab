"""pocketlm qat: what it prints, and how it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pocketlm.cli import main
from pocketlm.training.cli import _lines
from pocketlm.training.spec import QatSpec
from pocketlm.training.training import QatResult

MakeSpec = Callable[..., QatSpec]


def arguments(spec: QatSpec, *more: object) -> list[str]:
    options = ("--method", spec.method, "--steps", 2, "--batch", 2, "--sequence-length", 16)
    given = ("qat", spec.checkpoint, "--text", spec.text, "--out", spec.out, *options, *more)
    return [str(part) for part in given]


def test_what_it_prints(make_spec: MakeSpec) -> None:
    spec = make_spec()
    result = CliRunner().invoke(main, arguments(spec))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{spec.out}: trained on 64 tokens in 2 steps"
    assert "held-out tokens, in nats:" in lines[1]
    assert [line.split()[0] for line in lines[2:4]] == ["executorch", "onnx"]
    assert lines[-1] == f"  build it with its codes: pocketlm build {spec.out} --out BUNDLE"


def test_a_training_that_lost_says_what_to_do() -> None:
    def said(after: float) -> list[str]:
        held_out = {"onnx": ((0.0, 0.2), (1.0, after))}
        result = QatResult("int4-g32", None, 1, 64, 32, (0.2,), held_out)
        return [line for line in _lines(result, Path("out")) if "further away" in line]

    assert said(0.3) == ["  it is further away than before: give more --steps or a longer --text"]
    assert said(0.1) == []


def test_json(make_spec: MakeSpec) -> None:
    spec = make_spec()
    result = CliRunner().invoke(main, arguments(spec, "--json", "--targets", "8"))
    document = json.loads(result.stdout)
    assert document["checkpoint"] == str(spec.out)
    assert len(document["losses"]) == 2


@pytest.mark.parametrize("targets", ["0", "some", "-3"])
def test_targets_are_full_or_a_number(make_spec: MakeSpec, targets: str) -> None:
    result = CliRunner().invoke(main, arguments(make_spec(), "--targets", targets))
    assert result.exit_code == 2
    assert "is neither 'full' nor a number of tokens, such as 256" in result.output


def test_without_the_package_of_the_format(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketlm.training.exporting.find_spec", lambda name: None)
    spec = make_spec()
    result = CliRunner().invoke(main, arguments(spec))
    assert result.exit_code == 2
    assert "pip install 'pocketlm[training]'" in result.output
    assert not spec.out.exists()


def test_an_existing_folder_is_not_replaced(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec()
    spec.out.mkdir()
    result = CliRunner().invoke(main, arguments(spec))
    assert result.exit_code == 2
    assert "exists already and is no bundle" in result.output
