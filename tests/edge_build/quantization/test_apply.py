"""Checkpoint → weight store: bytes, reports, and what a recipe's rules decide."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.apply import QuantizedModel, quantize_weights
from pocketlm.edge_build.quantization.quality import summarize
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.models.checkpoint import Checkpoint, open_checkpoint


@pytest.fixture
def checkpoint(tiny_checkpoint: Callable[[str], Path]) -> Checkpoint:
    return open_checkpoint(tiny_checkpoint("qwen3"))


def quantize(checkpoint: Checkpoint, recipe: str, folder: Path) -> QuantizedModel:
    rules = choose_rules(checkpoint.shapes, recipes.load(recipe))
    return quantize_weights(checkpoint, rules, folder, silent)


def test_recipe_none_stores_the_checkpoint_itself(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = quantize(checkpoint, "none", tmp_path)
    for name in checkpoint.names():
        np.testing.assert_array_equal(model.weights.floating(name), checkpoint.read(name).numpy())


@pytest.mark.parametrize(
    ("recipe", "least_sqnr_db"),
    # Gaussian weights; a tensor's ratio is within a few tenths of the grid's own.
    [("int8-channel", 40.0), ("int4-channel", 18.0), ("int4-g32", 20.5), ("int4-g64", 19.5)],
)
def test_reported_noise_is_what_the_store_holds(
    checkpoint: Checkpoint, tmp_path: Path, recipe: str, least_sqnr_db: float
) -> None:
    model = quantize(checkpoint, recipe, tmp_path)
    for tensor in model.tensors:
        if tensor.sqnr_db is None:
            assert len(tensor.shape) == 1
            continue
        original = checkpoint.read(tensor.name).numpy()
        noise = np.square(model.weights.rows(tensor.name, 0, tensor.shape[0]) - original).sum()
        assert tensor.sqnr_db == pytest.approx(
            10 * np.log10(np.square(original).sum() / noise), abs=0.02
        )
        assert tensor.sqnr_db > least_sqnr_db


def test_reported_bytes_are_codes_and_bfloat16_scales(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    model = quantize(checkpoint, "int4-g32", tmp_path)
    sizes = {tensor.name: tensor.size_bytes for tensor in model.tensors}
    assert sizes["layers.0.mlp.up_proj"] == 128 * 64 // 2 + 2 * 128 * 2
    assert sizes["norm"] == 4 * 64
    assert summarize(model.tensors)["size_bytes"] == sum(sizes.values())


def test_blocks_of_rows_do_not_change_the_result(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    quantize(checkpoint, "int4-g32", tmp_path / "a")
    monkeypatch.setattr("pocketlm.edge_build.quantization.apply._BLOCK_ELEMENTS", 200)
    quantize(checkpoint, "int4-g32", tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_a_recipe_file_decides_per_weight(checkpoint: Checkpoint, tmp_path: Path) -> None:
    recipe = tmp_path / "mixed.toml"
    recipe.write_text(
        '[[rules]]\npattern = "*.down_proj"\nbits = 8\nreason = "outliers"\n'
        '[[rules]]\npattern = "embed_tokens"\n'
        '[[rules]]\npattern = "*"\nbits = 4\ngroup_size = 64\n'
    )
    loaded = recipes.load(str(recipe))
    assert loaded.name == "mixed.toml"
    rules = choose_rules(checkpoint.shapes, loaded)
    down, embedding = rules["layers.0.mlp.down_proj"], rules["embed_tokens"]
    assert down.scheme is not None and (down.scheme.bits, down.reason) == (8, "outliers")
    assert embedding.scheme is None
    other = rules["layers.1.attention.q_proj"].scheme
    assert other is not None and other.group_size == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules = 3", "needs at least one"),
        ("[[rules]]\nbits = 4", "must have a pattern"),
        ('[[rules]]\npattern = "*"\nbit = 4', "must have a pattern"),
        (
            '[[rules]]\npattern = "*"\nbits = 4\nmethod = "gptqq"',
            "rule for '[*]': method gptqq: unknown; did you mean gptq\\? known: .*round_to_nearest",
        ),
        ('[[rules]]\npattern = "*"\nbits = 4\nmethod = 4', "method = 4 must be a string"),
        ('[[rules]]\npattern = "*"\nbits = 5', r"bad\.toml: rule for '\*': bits = 5: give 4 or 8"),
        (
            '[[rules]]\npattern = "*"\nbits = 4\ngroup_size = 20',
            "group_size = 20: give a multiple of 32",
        ),
        ('[[rules]]\npattern = "mlp"\nbits = 4', "no rule matches embed_tokens"),
        ("[[rules", "cannot be read as TOML"),
        (f"rules = {'[' * 2000}{']' * 2000}", "cannot be read as TOML"),
    ],
)
def test_a_bad_recipe_file_is_explained(
    checkpoint: Checkpoint, tmp_path: Path, text: str, message: str
) -> None:
    recipe = tmp_path / "bad.toml"
    recipe.write_text(text)
    with pytest.raises(BuildError, match=message):
        choose_rules(checkpoint.shapes, recipes.load(str(recipe)))


def test_a_missing_recipe_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"gone\.toml: no such file"):
        recipes.load(str(tmp_path / "gone.toml"))
