"""Codes of other quantizations, adapters and heads of other tasks: judged by tensors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.models.errors import ModelError

Tensors = dict[str, torch.Tensor]
Change = Callable[[Callable[[Tensors], Any]], None]
UP = "model.layers.1.mlp.up_proj"


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as failure:
        open_checkpoint(folder)
    return str(failure.value)


BLOCKS: list[dict[str, Any]] = [
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    {"quantization_config": {"quant_method": "awq"}},
    {"quantization_config": {"quant_method": "compressed-tensors"}},
    {"quantization_config": {"quant_method": "fp8"}},
    {"quantization_config": {"quant_method": "torchao"}},
    {"compression_config": {"format": "dense"}},
    {"quantization": {"group_size": 64, "bits": 4}},
    {"quantization_config": "left over"},
]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_over_sound_weights_is_noted_and_not_followed(
    small_checkpoint: Path, block: dict[str, Any]
) -> None:
    edit_config(small_checkpoint, **block)
    (note,) = open_checkpoint(small_checkpoint).notes
    assert note.startswith(f"config.json has a {next(iter(block))} although no weight is quantized")


def codes(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=dtype)


# What each method writes in place of one weight of shape [48, 32].
QUANTIZED: list[tuple[str, dict[str, torch.Tensor]]] = [
    ("gptq", {".qweight": codes(torch.int32, 4, 48), ".g_idx": codes(torch.int32, 32)}),
    ("awq", {".qweight": codes(torch.int32, 32, 6), ".qzeros": codes(torch.int32, 1, 6)}),
    (
        "bitsandbytes",
        {".weight": codes(torch.uint8, 768, 1), ".weight.absmax": codes(torch.uint8, 24)},
    ),
    ("bitsandbytes", {".weight": codes(torch.int8, 48, 32), ".SCB": codes(torch.float32, 48)}),
    (
        "compressed-tensors",
        {".weight_packed": codes(torch.int32, 48, 4), ".weight_scale": codes(torch.bfloat16, 48)},
    ),
    (
        "fp8",
        {
            ".weight": codes(torch.float8_e4m3fn, 48, 32),
            ".weight_scale_inv": codes(torch.float32, 1, 1),
        },
    ),
    ("fp8", {".weight": codes(torch.float8_e4m3fn, 48, 32)}),
    ("torchao", {"._weight_qdata": codes(torch.int8, 48, 32)}),
    ("mlx", {".weight": codes(torch.uint32, 48, 4), ".scales": codes(torch.bfloat16, 48, 1)}),
]


@pytest.mark.parametrize("has_block", [True, False])
@pytest.mark.parametrize(("method", "tensors"), QUANTIZED)
def test_weights_that_are_quantized_are_called_so(
    small_checkpoint: Path,
    change_tensors: Change,
    method: str,
    tensors: dict[str, torch.Tensor],
    has_block: bool,
) -> None:
    def change(stored: Tensors) -> None:
        del stored[f"{UP}.weight"]
        stored.update({UP + end: tensor for end, tensor in tensors.items()})

    change_tensors(change)
    if has_block:
        edit_config(small_checkpoint, quantization_config={"quant_method": method})
    message = refusal(small_checkpoint)
    if has_block and method in ("gptq", "awq", "compressed-tensors"):
        # These are read, but not without their settings.
        assert message.startswith("config.json: ")
    elif has_block:
        assert f"quantized already by '{method}': {UP}" in message
        assert "give the checkpoint that it was made from" in message
    elif list(tensors) == [".weight"]:
        # Without a word in config.json and without scales it is just a dtype.
        assert "dtype F8_E4M3 in model.safetensors" in message
    else:
        assert "quantized already by " in message


@pytest.mark.parametrize("end", [".lora_A.default.weight", ".lora_B.weight", ".base_layer.weight"])
def test_an_adapter_among_the_weights_comes_with_the_way_to_merge_it(
    small_checkpoint: Path, change_tensors: Change, end: str
) -> None:
    change_tensors(lambda stored: stored.update({UP + end: torch.ones(4, 32)}))
    message = refusal(small_checkpoint)
    assert message.startswith(f"{UP}{end}: in {small_checkpoint}, a part of a LoRA adapter")
    assert "merge_and_unload()" in message


@pytest.mark.parametrize("config_too", [True, False])
def test_a_folder_with_an_adapter_alone_says_of_what(
    small_checkpoint: Path, config_too: bool
) -> None:
    weights = small_checkpoint / "model.safetensors"
    weights.rename(small_checkpoint / "adapter_model.safetensors")
    named = {"base_model_name_or_path": "google/gemma-3-270m", "peft_type": "LORA"}
    (small_checkpoint / "adapter_config.json").write_text(json.dumps(named))
    if not config_too:
        (small_checkpoint / "config.json").unlink()
    message = refusal(small_checkpoint)
    assert "a LoRA adapter of 'google/gemma-3-270m', not a whole model; merge it" in message


def test_an_adapter_beside_a_whole_model_is_not_read(small_checkpoint: Path) -> None:
    plain = open_checkpoint(small_checkpoint).digest()
    (small_checkpoint / "adapter_config.json").write_text("{}")
    (small_checkpoint / "adapter_model.safetensors").write_bytes(b"")
    (small_checkpoint / "model.safetensors").rename(small_checkpoint / "weights.safetensors")
    assert open_checkpoint(small_checkpoint).digest() == plain


def test_a_value_head_is_left_out_with_a_note(
    small_checkpoint: Path, change_tensors: Change
) -> None:
    head = {"v_head.summary.weight": torch.ones(1, 32), "v_head.summary.bias": torch.ones(1)}
    change_tensors(lambda stored: stored.update(head))
    (note,) = open_checkpoint(small_checkpoint).notes
    assert "v_head.summary.weight" in note
    assert "left out, the value head of a training" in note


def test_a_classifier_is_called_so(small_checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda stored: stored.update({"score.weight": torch.ones(2, 32)}))
    assert "score.weight: in " in refusal(small_checkpoint)
    assert "the head of a classifier or reward model" in refusal(small_checkpoint)
