"""build --bits-per-weight: plans, builds, and leaves the recipe in the bundle."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pocketlm.cli import main
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.mixed_precision import sensitivity
from pocketlm.edge_build.preparation import prepare
from pocketlm.edge_build.progress import Event, StageAdvanced, StageFinished, StagesPlanned
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.quality import summarize
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.runtime_py import open_bundle
from tests.staged_build import StagedBuild


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETLM_CACHE", str(tmp_path_factory.mktemp("cache")))


def build(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["build", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_bundle_has_the_recipe_that_it_was_built_with(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source, out = tiny_checkpoint("gemma3_text"), tmp_path / "out"
    options = ("--backend", "onnx", "--context", 64, "--golden-tokens", 1, "--json")
    status, stdout, stderr = build(source, "--out", out, "--bits-per-weight", 6, *options)
    assert status == 0, stderr
    stages = [stage["name"] for stage in json.loads(stdout)["stages"]]
    assert stages == ["recipe", "checkpoint", "quantize", "onnx", "golden", "text"]
    manifest = open_bundle(out).manifest
    assert 5 < summarize(manifest.tensors)["bits_per_weight"] <= 6
    assert {tensor.bits for tensor in manifest.tensors} == {4, 8, 32}
    assert manifest.recipe == "recipe.toml"
    assert "recipe.toml" in {file.path for file in manifest.files}
    assert (out / "recipe.toml").read_text().startswith("# ")
    # Read and built again, it is the same recipe.
    recipe = recipes.load(str(out / "recipe.toml"))
    assert recipes.recorded(recipe) == manifest.recipe_rules
    again = prepare(BuildSpec(source, tmp_path / "again", recipe=str(out / "recipe.toml")))
    assert {name: rule.reason for name, rule in again.rules.items()} == {
        tensor.name: tensor.reason for tensor in manifest.tensors
    }


def test_a_dry_run_measures_nothing_and_shows_the_bytes(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "measure_sensitivities", None)
    source = tiny_checkpoint("qwen3")
    shown = {}
    for bits in (5, 8):
        options = ("--bits-per-weight", bits, "--backend", "onnx", "--dry-run", "--json")
        status, stdout, _ = build(source, "--out", tmp_path / "out", *options)
        assert status == 0
        shown[bits] = json.loads(stdout)
    assert shown[5]["memory"]["stages"][0]["name"] == "recipe"
    assert shown[5]["weight_bytes"] < 0.75 * shown[8]["weight_bytes"]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bits-per-weight", 2), "the smallest recipe of this model has"),
        (("--bits-per-weight", 5, "--recipe", "int4-g64"), "--recipe int4-g64 says the bits"),
        (("--bits-per-weight", 5, "--method", "gtpq"), "did you mean gptq"),
        (("--bits-per-weight", 5, "--calibrate", "{}/short.txt"), "needs 256 or more"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_before_anything_is_measured(
    arguments: tuple[object, ...],
    message: str,
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "short.txt").write_text("few words")
    given = [str(argument).format(tmp_path) for argument in arguments]
    options = ("--out", tmp_path / "out", "--backend", "onnx", *given)
    status, stdout, stderr = build(tiny_checkpoint("qwen3"), *options)
    assert status == 2 and stdout == ""
    assert message in stderr and len(stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]


@pytest.mark.parametrize("bits", [0.5, 17, float("nan")])
def test_bits_out_of_range_are_refused_in_python_too(bits: float) -> None:
    with pytest.raises(BuildError, match="give 1 to 16"):
        BuildSpec(Path("pico"), Path("out"), bits_per_weight=bits)


def test_a_text_for_the_plan_is_taken_by_a_method_that_needs_none(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("few words and a few more, " * 60)
    source = tiny_checkpoint("qwen3")
    spec = BuildSpec(source, tmp_path / "out", bits_per_weight=6, calibration_text=text)
    prepared = prepare(spec)
    assert prepared.calibration and "calibrate" not in prepared.stage_names
    rows = prepared.rules
    assert {rule.scheme.bits for rule in rows.values() if rule.scheme} == {4, 8}


def test_an_interrupted_build_goes_on_with_the_recipe_that_was_planned(
    staged_build: StagedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    losses = sensitivity._losses

    def counted(run: object, names: list[str], *arguments: object) -> dict[str, float]:
        if len(measured) == 9:
            measured.append("stopped")
            raise KeyboardInterrupt
        measured.extend(names)
        found: dict[str, float] = losses(run, names, *arguments)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(sensitivity, "_losses", counted)
    with pytest.raises(KeyboardInterrupt):
        staged_build.build(recipe=None, bits_per_weight=6)
    staged_build.assert_nothing_left()
    staged_build.during = {"onnx": lambda: _raise(KeyboardInterrupt())}
    with pytest.raises(KeyboardInterrupt):
        staged_build.build(recipe=None, bits_per_weight=6)
    assert staged_build.worked == ["quantize", "executorch", "onnx"]
    assert len(measured) == len({*measured}) == 1 + 22
    staged_build.during = {}
    staged_build.build(recipe=None, bits_per_weight=6)
    assert staged_build.worked == ["onnx", "golden"] and len(measured) == 23
    assert (staged_build.out / "recipe.toml").exists()


def _raise(error: BaseException) -> None:
    raise error


def test_planning_is_a_stage_that_reports(staged_build: StagedBuild) -> None:
    from pocketlm.edge_build.build import build as run_build

    events: list[Event] = []
    changed = BuildSpec(**{**vars(staged_build.spec), "recipe": None, "bits_per_weight": 6.0})
    run_build(changed, events.append)
    (planned,) = [event.names for event in events if isinstance(event, StagesPlanned)]
    assert planned[:2] == ("recipe", "checkpoint")
    finished = tuple(e.report.name for e in events if isinstance(e, StageFinished))
    assert finished == planned
    steps = [e for e in events if isinstance(e, StageAdvanced) and e.name == "recipe"]
    assert steps[-1].done == steps[-1].total == 22
