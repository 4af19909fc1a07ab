"""Random-weight checkpoints: readable, reproducible, whole or absent."""

import errno
import json
import tracemalloc
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from pocketlm.models import families, random_checkpoint, shapes
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from pocketlm.models.errors import ModelError
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.models.random_tokenizer import PLANS
from pocketlm.models.shapes import Shape

SMALL = {
    "vocab_size": 640,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}


def small(family: str) -> Shape:
    inner = {"text_config": SMALL, "vision_config": VISION} if family == "gemma3" else SMALL
    return shapes.shape_of(f"small-{family}", {"model_type": family, **inner})


@pytest.mark.parametrize("family", families.NAMES)
def test_every_family_can_be_written_and_opened(family: str, tmp_path: Path) -> None:
    assert family in PLANS, f"add a tokenizer plan for {family} to models/random_tokenizer.py"
    size_bytes = write_random_checkpoint(small(family), tmp_path / "out")
    checkpoint = open_checkpoint(tmp_path / "out")
    assert checkpoint.config == small(family).config
    assert checkpoint.size_bytes == size_bytes
    logits = load_decoder(checkpoint)(torch.arange(20)[None])
    # Scaled so that activations, and so logits, keep a variance near one, as trained ones do.
    assert 0.3 < float(logits.std()) < 3.0


@pytest.mark.parametrize("family", families.NAMES)
def test_transformers_loads_it(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_random_checkpoint(small(family), tmp_path / "out")
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True
    )
    # The shapes leave the vision tower out.
    missing = [name for name in info.pop("missing_keys") if "model.vision_tower." not in name]
    assert all("multi_modal_projector" in name for name in missing)
    assert not any(info.values())
    ours = load_decoder(open_checkpoint(tmp_path / "out"))
    tokens = torch.arange(30)[None]
    with torch.no_grad():
        expected = model(tokens).logits
        # The same graph in the same float32; attention sums in another order.
        assert float((ours(tokens) - expected).abs().max() / expected.std()) < 1e-4


def test_the_same_seed_gives_the_same_files(tmp_path: Path, small_shape: Shape) -> None:
    for name, seed in [("first", 3), ("second", 3), ("third", 4)]:
        write_random_checkpoint(small_shape, tmp_path / name, seed=seed)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
    third = (tmp_path / "third" / "model.safetensors").read_bytes()
    assert (tmp_path / "first" / "model.safetensors").read_bytes() != third


def test_fewer_layers_keep_the_weights_of_those_that_stay(
    tmp_path: Path, small_shape: Shape
) -> None:
    write_random_checkpoint(small_shape, tmp_path / "whole")
    write_random_checkpoint(small_shape, tmp_path / "cut", layers=1)
    whole, cut = (open_checkpoint(tmp_path / name) for name in ("whole", "cut"))
    assert cut.config.num_layers == 1
    for name in cut.names():
        assert torch.equal(cut.read(name), whole.read(name))


def test_shards_hold_no_more_than_they_may(tmp_path: Path, small_shape: Shape) -> None:
    limit = 20_000
    total = write_random_checkpoint(small_shape, tmp_path / "out", shard_bytes=limit)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == total
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert sorted(set(index["weight_map"].values())) == files
    for file in files:
        with safe_open(tmp_path / "out" / file, "pt") as opened:
            names = list(opened.keys())
            assert {index["weight_map"][name] for name in names} == {file}
            size = sum(opened.get_tensor(name).nbytes for name in names)
        assert size <= limit or len(names) == 1


def test_shards_and_one_file_hold_the_same_weights(tmp_path: Path, small_shape: Shape) -> None:
    write_random_checkpoint(small_shape, tmp_path / "one")
    write_random_checkpoint(small_shape, tmp_path / "many", shard_bytes=20_000)
    one, many = (open_checkpoint(tmp_path / name) for name in ("one", "many"))
    assert one.digest() == many.digest()


def test_memory_stays_at_a_few_blocks(
    tmp_path: Path, small_shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tokenizer's memory follows the vocabulary, not the weights.
    monkeypatch.setattr(random_checkpoint, "write_tokenizer", lambda *_: None)
    monkeypatch.setattr(random_checkpoint, "_BLOCK_VALUES", 10_000)
    published = {**small_shape.published, "vocab_size": 100_000}
    shape = shapes.shape_of("tall", published)
    tracemalloc.start()
    total = write_random_checkpoint(shape, tmp_path / "out")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 6_000_000
    assert peak_bytes < 600_000


def test_progress_reaches_the_end(tmp_path: Path, small_shape: Shape) -> None:
    seen: list[tuple[int, int]] = []
    total = write_random_checkpoint(
        small_shape, tmp_path / "out", advance=lambda done, of: seen.append((done, of))
    )
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


def test_an_existing_folder_is_left_alone(tmp_path: Path, small_shape: Shape) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(ModelError, match="exists already; give a new folder"):
        write_random_checkpoint(small_shape, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("failure", "raised", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ModelError, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), ModelError, "cannot be written"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path,
    small_shape: Shape,
    failure: BaseException,
    raised: type[BaseException],
    words: str,
) -> None:
    def fail(done: int, total: int) -> None:
        if done > total / 2:
            raise failure

    with pytest.raises(raised, match=words):
        write_random_checkpoint(small_shape, tmp_path / "new" / "out", advance=fail)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_said_before_writing(
    tmp_path: Path, small_shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pocketlm.models.random_checkpoint.shutil.disk_usage",
        lambda path: type("Usage", (), {"free": 10})(),
    )
    with pytest.raises(ModelError, match=r"the disk has 0\.0 GB left"):
        write_random_checkpoint(small_shape, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_negative_seed_is_refused(tmp_path: Path, small_shape: Shape) -> None:
    with pytest.raises(ModelError, match="seed=-1: must be zero or above"):
        write_random_checkpoint(small_shape, tmp_path / "out", seed=-1)


def test_weights_have_the_spread_they_should(tmp_path: Path) -> None:
    write_random_checkpoint(small("gemma3_text"), tmp_path / "out")
    checkpoint = open_checkpoint(tmp_path / "out")
    for name in checkpoint.names():
        weight = checkpoint.read(name)
        if weight.dim() == 1:
            assert 0.8 < float(weight.mean()) < 1.2
        else:
            # 1,000 values and more: the estimate is within 10 %.
            assert prod(weight.shape) >= 1000
            assert abs(float(weight.std()) * weight.shape[1] ** 0.5 - 1) < 0.1


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_bf16_rounds_as_torch_does(values: list[float]) -> None:
    expected = torch.tensor(values, dtype=torch.float32).to(torch.bfloat16).view(torch.int16)
    found = random_checkpoint._to_bf16(np.array(values, dtype=np.float32))
    assert found.view(np.int16).tolist() == expected.tolist()
