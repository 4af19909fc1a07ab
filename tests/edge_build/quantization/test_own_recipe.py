"""The recipe of a checkpoint's own grid, and what a build with another says of it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pocketlm.edge_build import backends
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.preparation import Preparation, prepare
from pocketlm.edge_build.quantization.own_recipe import find_grids, keep_own_codes, own_recipe
from pocketlm.edge_build.quantization.recipe import OWN_GRID_METHOD, QuantScheme
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.checkpoint import open_checkpoint
from tests.coded_checkpoints import (
    CodedCheckpoint,
    awq_checkpoint,
    compressed_checkpoint,
    float_checkpoint,
    gguf_checkpoint,
    gptq_checkpoint,
)

UP = "layers.1.mlp.up_proj"
own = partial(QuantScheme, method=OWN_GRID_METHOD)
Write = Callable[[Path, Path], CodedCheckpoint]


def prepared(path: Path, tokenizer: Path, *names: str, **more: Any) -> Preparation:
    spec = BuildSpec(path, path.parent / "out", backends=names, context_length=64, chunk=8)
    return prepare(replace(spec, tokenizer=tokenizer, **more))


# What is written, and the scheme on ONNX Runtime, on ExecuTorch, and on both.
CASES: dict[str, tuple[Write, QuantScheme, QuantScheme]] = {
    "Q4_0": (
        partial(gguf_checkpoint, kind="Q4_0"),
        own(4, 32, zero_points=True, scale_dtype="float32"),
        own(4, 32),
    ),
    "Q8_0": (partial(gguf_checkpoint, kind="Q8_0"), own(8, 32, scale_dtype="float32"), own(8)),
    "Q4_1": (partial(gguf_checkpoint, kind="Q4_1"), QuantScheme(8), QuantScheme(8)),
    "Q5_1": (partial(gguf_checkpoint, kind="Q5_1"), QuantScheme(8), QuantScheme(8)),
    "compressed-tensors": (
        partial(compressed_checkpoint, group=32),
        own(4, 32, scale_dtype="float32"),
        own(4, 32),
    ),
    "GPTQ by channel": (
        partial(gptq_checkpoint, group=None),
        own(4, scale_dtype="float32"),
        own(4, scale_dtype="float32"),
    ),
    "AWQ by channel": (
        partial(awq_checkpoint, group=None),
        own(4, zero_points=True, scale_dtype="float32"),
        own(8, scale_dtype="float32"),
    ),
    "trained as Q4_0": (
        partial(
            float_checkpoint, dtype=torch.bfloat16, group=32, signed=True, extremum=-8,
            scale="bfloat16",
        ),
        own(4, 32, zero_points=True, scale_dtype="float32"),
        own(4, 32),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_default_recipe_is_the_checkpoints_own_grid(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    write, alone, with_executorch = CASES[name]
    source = tiny_checkpoint("gemma3_text")
    checkpoint = open_checkpoint(write(source, tmp_path / "coded.gguf").path)
    grids = find_grids(checkpoint)
    assert grids.decide
    both = (("onnx",), alone), (("executorch",), with_executorch)
    for names, expected in (*both, (("onnx", "executorch"), with_executorch)):
        chosen = tuple(map(backends.load, names))
        recipe = own_recipe(checkpoint, grids, chosen)
        rules = keep_own_codes(choose_rules(checkpoint.shapes, recipe), grids, chosen)
        assert rules[UP].scheme == expected
        # Random numbers of 16 bits, on no grid.
        assert rules["embed_tokens"].scheme == QuantScheme(8)
        # One rule for a name in all layers, one for the table, and the last.
        assert len(recipe.rules) == 9


def test_a_backend_that_alone_would_keep_the_grid_is_named(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tiny_checkpoint("gemma3_text")
    path = gguf_checkpoint(source, tmp_path / "tiny.gguf", "Q4_0").path
    assert prepared(path, source, "onnx", "executorch").weight_notes == (
        "21 weights have a grid that onnx holds exactly, but the backends share one set of "
        "weights; --backend onnx alone keeps it.",
    )
    assert prepared(path, source, "onnx").weight_notes == ()
    assert prepared(path, source, "executorch").weight_notes == ()


def test_a_checkpoint_on_no_grid_has_the_usual_default(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tiny_checkpoint("gemma3_text")
    path = gguf_checkpoint(source, tmp_path / "tiny.gguf", "F16").path
    found = prepared(path, source, "onnx")
    assert found.recipe.name == "int8-head4"
    assert found.rules[UP].scheme == QuantScheme(8)
    assert found.weight_notes == ()


def test_the_recipe_of_its_own_grid_can_be_named_where_there_is_one(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tiny_checkpoint("gemma3_text")
    path = compressed_checkpoint(source, tmp_path / "coded", 32).path
    for recipe in (None, "checkpoint-grid"):
        assert prepared(path, source, "onnx", recipe=recipe).recipe.name == "checkpoint-grid"
    with pytest.raises(BuildError, match=r"--recipe checkpoint-grid: the checkpoint is on no grid"):
        prepared(source, source, "onnx", recipe="checkpoint-grid")
    with pytest.raises(BuildError, match=r"--method gptq: recipe checkpoint-grid keeps"):
        prepared(path, source, "onnx", recipe="checkpoint-grid", method="gptq")


def test_another_recipe_quantizes_anew_and_says_so(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tiny_checkpoint("gemma3_text")
    path = gguf_checkpoint(source, tmp_path / "tiny.gguf", "Q8_0").path
    found = prepared(path, source, "onnx", recipe="int4-g32")
    assert found.rules[UP].scheme == QuantScheme(4, 32)
    (note,) = found.weight_notes
    assert note == (
        "21 weights, layers.0.attention.q_proj the first: the checkpoint has them on a grid (GGUF "
        "Q8_0, groups of 32), which recipe int4-g32 does not keep: dequantized and quantized anew."
    )
    assert note in found.notes


@pytest.mark.parametrize("recipe", ["int4-g32", "int8-channel"])
def test_a_named_recipe_that_holds_the_grid_keeps_it(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, recipe: str
) -> None:
    source = tiny_checkpoint("gemma3_text")
    # One scale a channel is as many in groups, and codes of 4 bits fit 8.
    path = compressed_checkpoint(source, tmp_path / "coded", None).path
    found = prepared(path, source, "onnx", recipe=recipe)
    assert found.rules[UP].scheme is not None
    assert found.rules[UP].scheme.method == OWN_GRID_METHOD
    assert found.weight_notes == ()


def test_a_method_that_is_asked_for_quantizes_anew(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tiny_checkpoint("gemma3_text")
    path = compressed_checkpoint(source, tmp_path / "coded", 32).path
    text = tmp_path / "text.txt"
    text.write_text("A few words and more of them. " * 40)
    found = prepared(path, source, "onnx", method="gptq", calibration_text=text)
    assert found.rules[UP].scheme == QuantScheme(8, method="gptq")
    assert len(found.weight_notes) == 1


def test_codes_in_the_order_of_activations_need_a_recipe(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tiny_checkpoint("gemma3_text")
    path = gptq_checkpoint(source, tmp_path / "coded", 32, reversed=True).path
    with pytest.raises(BuildError) as failure:
        prepared(path, source, "onnx")
    assert str(failure.value) == (
        "layers.0.attention.q_proj: its codes cannot be kept: its groups follow the order of "
        "activations (desc_act), so their columns are apart; give a --recipe, such as int4-g32, "
        "to dequantize the weights and quantize them anew"
    )
    found = prepared(path, source, "onnx", recipe="int4-g32")
    (note,) = found.weight_notes
    assert "desc_act" in note and "quantized anew" in note


def test_a_tokenizer_folder_must_be_there(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=r"--tokenizer .*nowhere: no such folder; give a folder"):
        prepared(tiny_checkpoint("gemma3_text"), tmp_path / "nowhere", "onnx")


def test_executorch_refuses_what_xnnpack_does_not_have() -> None:
    refuse = backends.load("executorch").refuse
    assert "zero points" in str(refuse(QuantScheme(4, 32, zero_points=True)))
    assert "bfloat16" in str(refuse(QuantScheme(4, 32, scale_dtype="float32")))
    assert refuse(QuantScheme(4, scale_dtype="float32")) is None
