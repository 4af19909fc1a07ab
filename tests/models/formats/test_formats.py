"""Codes, scales and zero points of GPTQ, AWQ and compressed-tensors come out as they went in."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketlm.models import formats
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.models.errors import ModelError
from tests.coded_checkpoints import (
    CodedCheckpoint,
    awq_checkpoint,
    compressed_checkpoint,
    gptq_checkpoint,
)

Write = Callable[[Path, Path, int | None], CodedCheckpoint]
UP = "model.layers.1.mlp.up_proj"

FORMATS: dict[str, Write] = {
    "gptq": gptq_checkpoint,
    "gptq v2, with zero points": partial(gptq_checkpoint, version=2, symmetric=False),
    "gptq with zero points": partial(gptq_checkpoint, symmetric=False),
    "gptq 8 bits": partial(gptq_checkpoint, bits=8),
    "awq": awq_checkpoint,
    "compressed": compressed_checkpoint,
    "compressed with zero points": partial(compressed_checkpoint, symmetric=False),
    "compressed 8 bits": partial(compressed_checkpoint, bits=8),
}


@pytest.mark.parametrize("group", [32, None])
@pytest.mark.parametrize("name", FORMATS)
def test_codes_and_scales_are_those_that_were_written(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, name: str, group: int | None
) -> None:
    written = FORMATS[name](tiny_checkpoint("gemma3_text"), tmp_path / "coded", group)
    checkpoint = open_checkpoint(written.path)
    assert checkpoint.notes == ()
    for published, codes in written.weights.items():
        ours = published.removeprefix("model.").replace("self_attn", "attention")
        weight = checkpoint.tensors[ours]
        assert weight.grid is not None and weight.grid.group_size == group
        assert weight.grid.bits == (8 if "8 bits" in name else 4)
        rows = codes.codes.shape[0]
        # In pieces that end within a word of packed output channels.
        for start, stop in ((0, 13), (13, rows)):
            found = weight.grid_rows(start, stop)
            np.testing.assert_array_equal(found.integers, codes.rows.integers[start:stop])
            np.testing.assert_array_equal(found.scales, codes.scales[start:stop])
            expected = codes.rows.dequantized()[start:stop]
            np.testing.assert_array_equal(checkpoint.read_rows(ours, start, stop), expected)


def test_columns_in_the_order_of_activations_are_dequantized_and_have_no_grid(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    written = gptq_checkpoint(
        tiny_checkpoint("gemma3_text"), tmp_path / "coded", 32, symmetric=False, reversed=True
    )
    weight = open_checkpoint(written.path).tensors["layers.1.mlp.up_proj"]
    assert weight.grid is None
    assert weight.off_grid is not None and "desc_act" in weight.off_grid
    codes = written.weights[UP]
    # The last columns are of the first group.
    groups = np.repeat([1, 0], 32)
    expected = (codes.codes - codes.zeros[:, groups]) * codes.scales[:, groups]
    np.testing.assert_array_equal(weight.rows(0, 128), expected)


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= changes
    path.write_text(json.dumps(config))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as failure:
        open_checkpoint(folder)
    return str(failure.value)


DAMAGES: list[tuple[str, str, Callable[[dict[str, torch.Tensor]], Any], str]] = [
    ("gptq", "missing zeros", lambda t: t.pop(f"{UP}.qzeros"), f"{UP}.qzeros: missing, although"),
    ("gptq", "no codes", lambda t: t.pop(f"{UP}.qweight"), f"{UP}.weight: missing from"),
    (
        "gptq",
        "wrong shape",
        lambda t: t.update({f"{UP}.qweight": t[f"{UP}.qweight"][:-1].contiguous()}),
        f"{UP}.qweight: shape [7, 128] in model.safetensors, but config.json makes it [8, 128]",
    ),
    (
        "gptq",
        "wrong dtype",
        lambda t: t.update({f"{UP}.qweight": t[f"{UP}.qweight"].float()}),
        f"{UP}.qweight: dtype F32 in model.safetensors, but I32 is needed",
    ),
    (
        "gptq",
        "group that is not there",
        lambda t: t.update({f"{UP}.g_idx": t[f"{UP}.g_idx"] + 1}),
        f"{UP}.g_idx: names the groups 1 to 2, but there are 2",
    ),
    (
        "compressed",
        "codes of 5 bits",
        lambda t: t.update({f"{UP}.weight_packed": torch.zeros(128, 10, dtype=torch.int32)}),
        f"{UP}.weight_packed: shape [128, 10]; of a weight [128, 64] codes of 4 or 8 bits",
    ),
    (
        "compressed",
        "scales of another weight",
        lambda t: t.update({f"{UP}.weight_scale": torch.ones(128, 3)}),
        f"{UP}.weight_scale: shape [128, 3] does not fit a weight [128, 64]",
    ),
    (
        "awq",
        "a weight too many",
        lambda t: t.update({"model.layers.9.mlp.up_proj.qweight": torch.zeros(2, 2).int()}),
        "model.layers.9.mlp.up_proj.qweight: in ",
    ),
]


@pytest.mark.parametrize(("name", "_", "edit", "message"), DAMAGES, ids=[d[1] for d in DAMAGES])
def test_a_damaged_checkpoint_is_refused_by_tensor(
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    _: str,
    edit: Callable[[dict[str, torch.Tensor]], Any],
    message: str,
) -> None:
    written = FORMATS[name](tiny_checkpoint("gemma3_text"), tmp_path / "coded", 32)
    change(written.path, edit)
    assert refusal(written.path).startswith(message)


SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    ("gptq", {"bits": 3}, "config.json: GPTQ with bits=3 and group_size=32; 4 and 8 bits"),
    ("gptq", {"group_size": 48}, f"{'model.layers.0.self_attn.q_proj'}.weight: quantization_"),
    ("gptq", {"checkpoint_format": "marlin"}, "config.json: GPTQ with checkpoint_format='marlin'"),
    ("gptq", {"is_marlin_format": True}, "config.json: GPTQ with checkpoint_format='marlin'"),
    ("awq", {"version": "gemv"}, "config.json: AWQ with bits=4, group_size=32 and version='gemv'"),
    ("compressed", {"format": "int-quantized"}, "config.json: compressed-tensors with format="),
    ("compressed", {"config_groups": 3}, "config.json: its quantization_config cannot be read: "),
]


@pytest.mark.parametrize(("name", "changes", "message"), SETTINGS, ids=str)
def test_settings_that_are_not_read_are_refused(
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    written = FORMATS[name](tiny_checkpoint("gemma3_text"), tmp_path / "coded", 32)
    settings(written.path, **changes)
    assert refusal(written.path).startswith(message)


def test_rounded_activations_are_said_to_be_the_runtimes_own(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    written = compressed_checkpoint(tiny_checkpoint("gemma3_text"), tmp_path / "coded", 32)
    scheme = json.loads((written.path / "config.json").read_text())["quantization_config"]
    group = scheme["config_groups"]["group_0"] | {"input_activations": {"num_bits": 8}}
    settings(written.path, config_groups={"group_0": group})
    (note,) = open_checkpoint(written.path).notes
    assert note.startswith("config.json asks for rounded activations")


def test_the_package_that_is_missing_is_named(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = compressed_checkpoint(tiny_checkpoint("gemma3_text"), tmp_path / "coded", 32)
    monkeypatch.setitem(sys.modules, "compressed_tensors.quantization", None)
    assert refusal(written.path).endswith("not installed; run: pip install 'pocketlm[imports]'")


@pytest.mark.parametrize("name", formats.NAMES)
def test_format_offers_its_constant_under_its_file_name(name: str) -> None:
    assert isinstance(formats.load(name), formats.Format)
