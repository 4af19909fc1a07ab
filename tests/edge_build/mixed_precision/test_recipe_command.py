"""pocketlm recipe: a file that a build reads, within the bits that were asked for."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pocketlm.cli import main
from pocketlm.edge_build.calibration.measured import Sequences
from pocketlm.edge_build.mixed_precision import planning
from pocketlm.edge_build.mixed_precision.sensitivity import SENSITIVITY_TOKENS
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.entries import tensor_entry
from pocketlm.edge_build.quantization.quality import summarize
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.models.checkpoint import open_checkpoint
from tests.conftest import TINY_PUBLISHED


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["recipe", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("method", ["round_to_nearest", "gptq"])
@pytest.mark.parametrize("family", sorted(TINY_PUBLISHED))
def test_the_file_is_a_recipe_of_the_bits_that_it_says(
    family: str, method: str, tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source, out = tiny_checkpoint(family), tmp_path / "mixed.toml"
    text = tmp_path / "text.txt"
    text.write_text("few words and a few more, " * 60)
    options = ("--bits-per-weight", 7, "--method", method, "--calibrate", text, "--out", out)
    status, stdout, _ = run(source, *options, "--json")
    assert status == 0
    document = json.loads(stdout)
    shapes = open_checkpoint(source).shapes
    rules = choose_rules(shapes, recipes.load(str(out)))
    entries = [tensor_entry(n, shapes[n], r.scheme, r.reason) for n, r in rules.items()]
    assert summarize(entries)["bits_per_weight"] == document["bits_per_weight"] <= 7
    assert document["predicted_kl_nats"] > 0
    assert {rule.scheme.method for rule in rules.values() if rule.scheme} == {method}
    bits = {weight["name"]: weight["bits"] for weight in document["weights"]}
    assert set(bits.values()) == {4, 8}
    assert bits == {n: r.scheme.bits for n, r in rules.items() if r.scheme is not None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bits-per-weight", 2, "--out", "{}/a.toml"), "the smallest recipe of this model has"),
        (("--bits-per-weight", 5, "--out", "{}/a.toml", "--method", "gtpq"), "did you mean gptq"),
        (("--bits-per-weight", 5, "--out", "{}/a.txt"), "a recipe file ends in .toml"),
        (("--bits-per-weight", 5, "--out", "{}/there.toml"), "exists already; remove it"),
        (("--bits-per-weight", 5, "--out", "{}/no/a.toml"), "the folder does not exist; make it"),
        (
            ("--bits-per-weight", 5, "--out", "{}/a.toml", "--calibrate", "{}/there.toml"),
            "calibration needs 256 or more",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: tuple[object, ...],
    message: str,
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "there.toml").write_text("few words")
    given = [str(argument).format(tmp_path) for argument in arguments]
    status, stdout, stderr = run(tiny_checkpoint("qwen3"), *given)
    assert status == 2 and stdout == ""
    assert message in stderr and len(stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]


def test_a_recipe_that_cannot_be_written_leaves_nothing(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    out = tmp_path / "mixed.toml"
    status, _, stderr = run(tiny_checkpoint("qwen3"), "--bits-per-weight", 6, "--out", out)
    assert status == 2 and f"--out {out}: cannot be written (Permission denied)" in stderr
    assert [*tmp_path.iterdir()] == []


def test_a_method_that_needs_data_is_measured_on_the_models_own_text(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def sampled(checkpoint: object, text: object, length: int, advance: object) -> Sequences:
        asked.append(length)
        return tuple((2, *range(10 * n + 5, 10 * n + 25)) for n in range(20))

    monkeypatch.setattr(planning, "own_sequences", sampled)
    options = ("--bits-per-weight", 7, "--method", "gptq", "--out", tmp_path / "mixed.toml")
    source = tiny_checkpoint("qwen3")
    assert run(source, *options)[0] == 0
    longest = open_checkpoint(source).config.max_position_embeddings
    assert asked == [min(longest, SENSITIVITY_TOKENS)]
