"""A training from its text to a checkpoint that builds with its codes kept."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketlm.edge_build.backends import load as load_backend
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.preparation import prepare
from pocketlm.edge_build.progress import Event, StageAdvanced, StageFinished, silent
from pocketlm.edge_build.quantization.apply import quantize_weights
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.training import trainer
from pocketlm.training.processes import Processes
from pocketlm.training.spec import QatSpec
from pocketlm.training.training import run_training

MakeSpec = Callable[..., QatSpec]


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_held_out_text_is_predicted_better(make_spec: MakeSpec) -> None:
    result = run_training(make_spec(steps=16, learning_rate=0.01))
    assert result is not None
    assert len(result.losses) == 16
    assert set(result.held_out_kl_nats) == {"executorch", "onnx"}
    for points in result.held_out_kl_nats.values():
        assert points[0][0] == 0 and points[-1][0] == 16
        assert points[-1][1] < 0.9 * points[0][1]


@pytest.mark.parametrize(
    ("family", "recipe"),
    [
        ("gemma3_text", "int4-g32"),
        ("gemma2", "int4-channel"),
        ("qwen3", "int4-g32-head8"),
        ("gemma3_text", "int8-channel"),
    ],
)
def test_a_build_keeps_every_code_and_scale(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, recipe: str
) -> None:
    kept: list[trainer.Trained] = []

    def train(*arguments: object) -> trainer.Trained:
        kept.append(trainer.train(*arguments))  # type: ignore[arg-type]
        return kept[0]

    monkeypatch.setattr("pocketlm.training.training.train", train)
    spec = make_spec(family, recipe=recipe, steps=1)
    run_training(spec)
    prepared = prepare(BuildSpec(spec.out, tmp_path / "bundle", chunk=8))
    assert prepared.recipe.name == "checkpoint-grid"
    (tmp_path / "store").mkdir()
    built = quantize_weights(prepared.checkpoint, prepared.rules, tmp_path / "store", silent)
    weights = kept[0].weights
    for name, (codes, scales) in weights.codes.items():
        stored = built.weights.quantized(name)
        assert np.array_equal(stored.codes(), codes.numpy()), name
        assert np.array_equal(stored.scales, scales.numpy()), name
        assert load_backend("executorch").refuse(stored.scheme) is None
    for name, values in weights.whole.items():
        # The offset of a norm is taken away and added again.
        np.testing.assert_allclose(built.weights.floating(name), values.numpy(), rtol=1e-6)
    tensors = {entry.name: entry.own_grid for entry in built.tensors}
    assert all(tensors[name] is not None for name in weights.codes)


def test_weights_that_a_recipe_keeps_whole_are_trained_too(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[[rules]]\npattern = "layers.0.*"\n\n[[rules]]\npattern = "*"\nbits = 4\ngroup_size = 32\n'
    )
    spec = make_spec(recipe=str(recipe), method=None, steps=3)
    run_training(spec)
    before, after = open_checkpoint(spec.checkpoint), open_checkpoint(spec.out)
    name = "layers.0.mlp.up_proj"
    assert after.tensors[name].dtype == "F32"
    moved = (before.read(name) - after.read(name)).abs().max()
    assert 0 < float(moved) < 0.1


def test_an_interrupted_training_goes_on_and_makes_the_very_same_checkpoint(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec()
    whole = replace(spec, out=tmp_path / "at-once")
    run_training(whole)

    def interrupt(event: Event) -> None:
        # The state was written after the fourth step.
        if isinstance(event, StageAdvanced) and event.name == "train" and event.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        run_training(spec, interrupt)
    assert "run the same command again to continue" in caught.value.__notes__[0]
    assert not spec.out.exists()

    steps: list[int] = []
    reused: list[str] = []

    def tell(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.name == "train":
            steps.append(event.done)
        if isinstance(event, StageFinished) and event.report.reused:
            reused.append(event.report.name)

    run_training(spec, tell)
    assert reused == ["quantize"]
    assert steps == [0, 4, 5, 6]
    assert files_of(spec.out) == files_of(whole.out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at-once", "text.txt", "trained"]


def test_other_processes_are_told_when_a_finished_training_is_taken_over(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(out: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("pocketlm.training.training.refuse_appeared", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_training(make_spec(steps=1))
    heard: list[bool] = []
    monkeypatch.setattr(Processes, "hear", lambda self, said: heard.append(said))
    result = run_training(make_spec(steps=1))
    assert heard == [False]
    assert result is not None and len(result.losses) == 1


def test_a_damaged_state_is_not_taken(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec()

    def interrupt(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.name == "train" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(spec, interrupt)
    state = tmp_path / ".trained.build" / "train" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    result = run_training(spec)
    assert result is not None
    assert len(result.losses) == 6


def test_a_larger_teacher_and_drawn_targets(make_spec: MakeSpec) -> None:
    spec = make_spec()
    result = run_training(replace(spec, teacher=spec.checkpoint, targets=16, steps=2))
    own = run_training(replace(spec, out=spec.out.with_name("own"), targets=16, steps=2))
    assert result is not None and own is not None
    assert result.losses == own.losses
    assert result.teacher == str(spec.checkpoint)
    full = run_training(replace(spec, out=spec.out.with_name("full"), steps=2))
    assert full is not None
    assert full.losses != own.losses


def test_what_lies_in_the_checkpoint(make_spec: MakeSpec) -> None:
    spec = make_spec()
    result = run_training(spec)
    assert result is not None
    names = set(files_of(spec.out))
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "training.json",
        "loss.svg",
    } <= names
    assert not names & {"state.safetensors", "parts.key"}
    record = json.loads((spec.out / "training.json").read_text(encoding="utf-8"))
    assert record["losses"] == list(result.losses)
    assert record["recipe"] == "int8-head4"
    settings = json.loads((spec.out / "config.json").read_text(encoding="utf-8"))
    assert settings["quantization_config"]["quant_method"] == "compressed-tensors"
    picture = (spec.out / "loss.svg").read_text(encoding="utf-8")
    for text in ("held out, onnx", "held out, executorch", "mean of 10 steps", "steps"):
        assert text in picture


REFUSED = {
    "recipe none": ({"recipe": "none", "method": None}, "keeps float32"),
    "long sequences": ({"sequence_length": 4096}, "--sequence-length 4096: the model has 128"),
    "teacher of another vocabulary": ({"teacher": "pico"}, "has 4,096 tokens, the student 512"),
    "unknown method": ({"method": "gtpq"}, "gtpq"),
    "no text": ({"text": Path("/nowhere/book.txt")}, "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_and_leaves_nothing(make_spec: MakeSpec, case: str) -> None:
    from tests.conftest import PICO

    changes, message = REFUSED[case]
    if changes.get("teacher") == "pico":
        changes = {**changes, "teacher": PICO}
    spec = make_spec(**changes)
    with pytest.raises(BuildError, match=message):
        run_training(spec)
    assert not spec.out.exists()
    assert not spec.out.with_name(".trained.build").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "--learning-rate 0: is a share of a code"),
        ({"learning_rate": 2.0}, "--learning-rate 2: is a share of a code"),
        ({"targets": 0}, "--targets 0: give 'full'"),
        ({"sequence_length": 1}, "--sequence-length 1: must be 2 or more"),
    ],
)
def test_values_out_of_range(make_spec: MakeSpec, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        make_spec(**changes)


def test_a_teacher_that_reads_the_text_otherwise(make_spec: MakeSpec, tmp_path: Path) -> None:
    import shutil

    spec = make_spec()
    other = Path(shutil.copytree(spec.checkpoint, tmp_path / "other"))
    tokenizer = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-50]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(BuildError, match="reads --text otherwise than the student, from token"):
        run_training(replace(spec, teacher=other))


def test_torch_computes_on_what_there_is() -> None:
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    from pocketlm.training.processes import joined_processes

    with pytest.raises(BuildError, match="--device cuda: torch sees no GPU here"):
        joined_processes("cuda").__enter__()
