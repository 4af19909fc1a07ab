"""What a user can get wrong in a build: the message, and that nothing is written."""

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from pocketlm.edge_build import backends
from pocketlm.edge_build.build import build
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.progress import Event, StageAdvanced
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.errors import ModelError

Damage = Callable[[Path], None]


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_checkpoint: Callable[[str], Path]) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint("gemma3_text"), tmp_path / "checkpoint"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "bundles" / "tiny"


def assert_untouched(out: Path) -> None:
    assert not out.exists()
    assert not out.parent.exists() or not list(out.parent.iterdir()), "something was left behind"


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(change: Callable[[dict[str, Tensor]], None]) -> Damage:
    """Return what changes the tensors of a checkpoint's one file."""

    def damage(checkpoint: Path) -> None:
        path = checkpoint / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


@edit_tensors
def remove_tensor(tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


@edit_tensors
def add_tensor(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.9.mlp.up_proj.weight"] = tensors["model.norm.weight"].clone()


@edit_tensors
def reshape_tensor(tensors: dict[str, Tensor]) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:32].clone()


@edit_tensors
def retype_tensor(tensors: dict[str, Tensor]) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].int()


@edit_tensors
def poison_tensor(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")


def truncate(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def only_pickle(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")


def lose_a_shard(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00002.safetensors")}
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))


def enlarge_tokenizer(checkpoint: Path) -> None:
    path = checkpoint / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"]["beyond"] = 600
    path.write_text(json.dumps(document))


BAD_CHECKPOINTS: list[tuple[str, Damage, str]] = [
    ("no config", lambda c: (c / "config.json").unlink(), "config.json"),
    (
        "unknown model type",
        lambda c: edit_json(c / "config.json", model_type="gemma3_txt"),
        "gemma3_txt.*gemma3_text",
    ),
    ("missing tensor", remove_tensor, r"model\.layers\.1\.mlp\.up_proj\.weight: missing"),
    ("extra tensor", add_tensor, r"model\.layers\.9\.mlp\.up_proj\.weight"),
    ("wrong shape", reshape_tensor, r"model\.norm\.weight.*32.*64|model\.norm\.weight.*64.*32"),
    ("wrong dtype", retype_tensor, r"model\.norm\.weight.*I32"),
    ("not finite", poison_tensor, r"layers\.1\.mlp\.up_proj.*NaN"),
    ("truncated", truncate, r"model\.safetensors"),
    ("pickle only", only_pickle, r"pytorch_model\.bin"),
    ("absent shard", lose_a_shard, r"model-00001-of-00002\.safetensors"),
    ("no tokenizer", lambda c: (c / "tokenizer.json").unlink(), "tokenizer"),
    ("large tokenizer", enlarge_tokenizer, "ids up to 600, but the model has 512 rows"),
    ("broken tokenizer", lambda c: (c / "tokenizer.json").write_text("{"), "tokenizer"),
    ("broken config", lambda c: (c / "config.json").write_text("{"), "config.json"),
]


@pytest.mark.parametrize(
    ("damage", "message"),
    [pytest.param(damage, message, id=name) for name, damage, message in BAD_CHECKPOINTS],
)
def test_bad_checkpoint_is_named_and_nothing_is_written(
    checkpoint: Path, out: Path, damage: Damage, message: str
) -> None:
    damage(checkpoint)
    with pytest.raises((ModelError, BuildError), match=f"(?s){message}"):
        build(BuildSpec(checkpoint=checkpoint, out=out, backends=("onnx",)))
    assert_untouched(out)


def test_missing_folder_is_named(tmp_path: Path, out: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        build(BuildSpec(checkpoint=tmp_path / "nowhere", out=out))
    assert_untouched(out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "int4-g128"}, r"embed_tokens: 64 input channels.*128.*that do: 32, 64"),
        ({"recipe": "int4-g33"}, "did you mean int4-g32"),
        ({"context_length": 4096}, "--context 4096: the checkpoint was made for at most 128"),
        (
            {"context_length": 64, "chunk": 65},
            "--chunk 65: the context has 64 positions; give 1 to",
        ),
        ({"backends": ("onx",)}, "--backend onx: unknown; did you mean onnx"),
        ({"golden_tokens": 0}, "--golden-tokens 0"),
        ({"kv": "int4"}, "--kv int4: unknown; choose one of float32, int8, .*auto"),
        (
            {"backends": ("onnx",), "backend_options": {"onnx": {"local-cache": "rung"}}},
            "onnx.local-cache=rung: choose one of windowed, ring",
        ),
        (
            {"backends": ("onnx",), "backend_options": {"onnx": {"cache": "ring"}}},
            "onnx.cache: .*it has: .*local-cache",
        ),
    ],
)
def test_impossible_options_are_refused(
    checkpoint: Path, out: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises((ModelError, BuildError), match=f"(?s){message}"):
        build(BuildSpec(checkpoint=checkpoint, out=out, **change))  # type: ignore[arg-type]
    assert_untouched(out)


def test_a_backend_that_cannot_keep_int8_is_named_with_one_that_can(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = replace(backends.load("executorch"), kv={"float32": "none"})
    monkeypatch.setattr("pocketlm.edge_build.backends.executorch.BACKEND", exact)
    message = "--kv int8: backend executorch keeps keys and values in float32; .* --backend onnx"
    with pytest.raises(BuildError, match=message):
        build(BuildSpec(checkpoint=checkpoint, out=out, kv="int8"))
    assert_untouched(out)


def test_an_existing_output_folder_is_kept_as_it_is(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "file").write_text("kept")
    with pytest.raises(BuildError, match="exists already"):
        build(BuildSpec(checkpoint=checkpoint, out=out))
    assert (out / "file").read_text() == "kept"


def test_a_disk_that_is_too_small_is_found_before_the_work(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil._ntuple_diskusage(total=10, used=10, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(BuildError, match=r"needs about .* MB there and 0 MB are free; make room"):
        build(BuildSpec(checkpoint=checkpoint, out=out))
    assert_untouched(out)


def test_a_disk_that_fills_up_in_the_first_stage_leaves_nothing(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pocketlm.edge_build.weight_stages.quantize_weights", fill_up)
    with pytest.raises(BuildError, match="the disk is full"):
        build(BuildSpec(checkpoint=checkpoint, out=out, recipe="int4-g32"))
    assert_untouched(out)


def test_a_build_that_is_interrupted_in_the_first_stage_leaves_nothing(
    checkpoint: Path, out: Path
) -> None:
    # With a stage finished something is kept: test_resuming.py.
    def interrupt(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(BuildSpec(checkpoint=checkpoint, out=out), interrupt)
    assert_untouched(out)
