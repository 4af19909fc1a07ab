"""pocketlm recipe: a file that a build reads, within the bits that were asked for."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pocketlm.cli import main
from pocketlm.edge_build.calibration.measured import Sequences
from pocketlm.edge_build.mixed_precision import planning, sensitivity
from pocketlm.edge_build.mixed_precision.sensitivity import SENSITIVITY_TOKENS
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.entries import tensor_entry
from pocketlm.edge_build.quantization.quality import summarize
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.models.checkpoint import open_checkpoint
from tests.conftest import TINY_PUBLISHED


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("POCKETLM_CACHE", str(folder))
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["recipe", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("method", ["round_to_nearest", "gptq", "awq"])
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


class Measuring:
    """Counts the weights of layers that are measured, and stops at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.stop = 10**6
        losses = sensitivity._losses

        def counted(run: object, names: list[str], *arguments: Any) -> dict[str, float]:
            if len(self.names) >= self.stop:
                raise KeyboardInterrupt
            self.names += names
            found: dict[str, float] = losses(run, names, *arguments)  # type: ignore[arg-type]
            return found

        monkeypatch.setattr(sensitivity, "_losses", counted)


@pytest.mark.parametrize("method", ["round_to_nearest", "awq+gptq"])
def test_a_run_that_was_interrupted_goes_on_and_another_budget_measures_nothing(
    method: str,
    own_cache: Path,
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, measuring = tiny_checkpoint("gemma3_text"), Measuring(monkeypatch)
    text = tmp_path / "text.txt"
    text.write_text("few words and a few more, " * 60)
    options = ("--method", method, "--calibrate", text, "--bits-per-weight")
    assert run(source, *options, 6, "--out", tmp_path / "whole.toml")[0] == 0
    every = sorted(measuring.names)
    shutil.rmtree(own_cache)
    measuring.names, measuring.stop = [], 9
    assert run(source, *options, 6, "--out", tmp_path / "a.toml")[0] == 130
    assert not (tmp_path / "a.toml").exists()
    # One that was cut off, and one that is no number.
    first, second = sorted(own_cache.rglob("*.cost.json"))[:2]
    first.write_text(first.read_text()[:10])
    second.write_text('{"kl_nats": NaN, "errors": [1.0]}')
    measuring.stop = 10**6
    assert run(source, *options, 6, "--out", tmp_path / "a.toml")[0] == 0
    again = [f.name.removesuffix(".cost.json") for f in (first, second)]
    assert sorted(measuring.names) == sorted([*every, *again])
    assert (tmp_path / "a.toml").read_text() == (tmp_path / "whole.toml").read_text()
    measuring.names = []
    assert run(source, *options, 7, "--out", tmp_path / "b.toml")[0] == 0
    assert measuring.names == []


@pytest.mark.parametrize("method", ["round_to_nearest", "awq"])
def test_a_cache_that_cannot_be_written_costs_no_recipe(
    method: str,
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path / "file"))
    out, text = tmp_path / "mixed.toml", tmp_path / "text.txt"
    text.write_text("few words and a few more, " * 60)
    options = ("--method", method, "--calibrate", text, "--out", out)
    assert run(tiny_checkpoint("qwen3"), "--bits-per-weight", 6, *options)[0] == 0
    assert out.exists()


def test_the_models_own_text_is_sampled_once(
    own_cache: Path,
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def sampled(checkpoint: object, text: object, length: int, advance: object) -> Sequences:
        asked.append(length)
        return tuple((2, *range(10 * n + 5, 10 * n + 25)) for n in range(20))

    monkeypatch.setattr(planning, "own_sequences", sampled)
    for number, damage in enumerate(("", "", "[[]]", "{")):
        kept = [*own_cache.rglob("tokens.json")]
        if damage:
            kept[0].write_text(damage)
        options = ("--bits-per-weight", 7, "--method", "gptq", "--out", tmp_path / f"{number}.toml")
        assert run(tiny_checkpoint("qwen3"), *options)[0] == 0
    assert len(asked) == 3
