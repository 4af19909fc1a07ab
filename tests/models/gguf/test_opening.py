"""GGUF files as checkpoints: the same weights and config as the folder they were made from."""

import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.models.checkpoint_summary import summarize_checkpoint
from pocketlm.models.errors import ModelError
from pocketlm.models.gguf.quick_reader import quick_reader
from pocketlm.models.hub import checkpoint_name, resolve
from tests.coded_checkpoints import gguf_checkpoint

FAMILIES = ("gemma3_text", "gemma2", "qwen3")
UP = "blk.1.ffn_up.weight"


@pytest.mark.parametrize("family", FAMILIES)
def test_config_and_numbers_are_those_of_the_folder(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    folder = tiny_checkpoint(family)
    # Types of 16 bits hold the folder's bfloat16 weights as they are.
    path = gguf_checkpoint(folder, tmp_path / "tiny.gguf", "BF16").path
    expected, found = open_checkpoint(folder), open_checkpoint(path)
    # Norms of Gemma hold their offset in the file.
    same = replace(found.config, norm_weight_offset=expected.config.norm_weight_offset)
    assert same == expected.config
    assert found.notes == ()
    for name in expected.names():
        np.testing.assert_array_equal(found.read(name), expected.read(name))


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_codes_and_scales_are_those_that_were_written(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    written = gguf_checkpoint(tiny_checkpoint("gemma3_text"), tmp_path / "tiny.gguf", kind)
    checkpoint = open_checkpoint(written.path)
    for published, codes in written.weights.items():
        weight = checkpoint.tensors[
            published.removeprefix("model.").replace("self_attn", "attention")
        ]
        assert weight.grid is not None and weight.grid.name == f"GGUF {kind}"
        rows = weight.grid_rows(3, codes.codes.shape[0])
        np.testing.assert_array_equal(rows.scales, codes.scales[3:])
        np.testing.assert_array_equal(rows.integers, codes.rows.integers[3:])
        np.testing.assert_array_equal(weight.rows(3, 9), codes.rows.dequantized()[3:9])


@pytest.mark.parametrize("kind", ["Q4_1", "Q5_1"])
def test_other_types_are_dequantized_with_a_note(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    path = gguf_checkpoint(tiny_checkpoint("qwen3"), tmp_path / "tiny.gguf", kind).path
    checkpoint = open_checkpoint(path)
    assert checkpoint.notes == (
        f"Weights dequantized, because no grid of ours holds their blocks: 21 of type {kind}.",
    )
    reader = gguf.GGUFReader(path)
    tensor = next(tensor for tensor in reader.tensors if tensor.name == UP)
    expected = gguf.dequantize(tensor.data, tensor.tensor_type)
    np.testing.assert_array_equal(checkpoint.read("layers.1.mlp.up_proj"), expected)


def test_a_summary_reads_the_header(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    path = gguf_checkpoint(tiny_checkpoint("gemma3_text"), tmp_path / "tiny.gguf", "Q4_0").path
    summary = summarize_checkpoint(str(path))
    assert summary.name == checkpoint_name(resolve(str(path))) == "tiny"
    assert summary.config.model_type == "gemma3_text"
    assert summary.stored_tensors == {"F32": 19, "BF16": 1, "Q4_0": 21}


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as failure:
        open_checkpoint(path)
    return str(failure.value)


MADE: list[tuple[dict[str, Any], str]] = [
    ({"architecture": "llama"}, "its architecture 'llama' is not supported; the nearest known"),
    ({"drop": [UP]}, f"{UP} is missing, of shape [128, 64]; download the file again"),
    ({"drop": ["token_embd.weight"]}, "token_embd.weight is missing, the embedding of a language"),
    ({"metadata": {"split.count": 3}}, "one of 3 parts of a model; join them with llama-gguf-"),
    ({"metadata": {"gemma3.rope.scaling.type": "yarn"}}, "gemma3.rope.scaling.type is 'yarn', but"),
]


@pytest.mark.parametrize(("changes", "message"), MADE, ids=str)
def test_a_file_that_is_no_such_model_is_refused(
    tiny_checkpoint: Callable[[str], Path],
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    path = tmp_path / "tiny.gguf"
    gguf_checkpoint(tiny_checkpoint("gemma3_text"), path, "Q4_0", **changes)
    assert refusal(path).startswith(f"{path}: {message}")


def test_a_wrong_shape_is_refused(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    path = gguf_checkpoint(tiny_checkpoint("gemma3_text"), tmp_path / "tiny.gguf", "BF16").path
    data = path.read_bytes()
    at = data.index(b"gemma3.feed_forward_length") + len(b"gemma3.feed_forward_length") + 4
    path.write_bytes(data[:at] + struct.pack("<I", 96) + data[at + 4 :])
    found = refusal(path)
    assert "blk.0.ffn_gate.weight has shape [128, 64], but the metadata make it [96, 64]" in found


@pytest.mark.parametrize("length", [0, 3, 200, 2_000, -40])
def test_a_truncated_file_is_refused(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, length: int
) -> None:
    path = gguf_checkpoint(tiny_checkpoint("qwen3"), tmp_path / "tiny.gguf", "Q8_0").path
    path.write_bytes(path.read_bytes()[:length])
    assert "truncated" in refusal(path)


def test_a_type_that_is_not_known_is_refused(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    path = gguf_checkpoint(tiny_checkpoint("qwen3"), tmp_path / "tiny.gguf", "Q8_0").path
    data = path.read_bytes()
    # After a tensor's name: two dimensions of 8 bytes behind their count, then its type.
    at = data.index(UP.encode()) + len(UP) + 4 + 16
    for kind, message in (
        (250, "is not a valid GGMLQuantizationType"),
        (9, "Q8_1, which the package"),
    ):
        path.write_bytes(data[:at] + struct.pack("<I", kind) + data[at + 4 :])
        assert message in refusal(path)


def test_the_package_that_is_missing_is_named(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gguf_checkpoint(tiny_checkpoint("qwen3"), tmp_path / "tiny.gguf", "Q8_0").path
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert refusal(path).endswith("not installed; run: pip install 'pocketlm[imports]'")


def test_the_quick_reader_reads_what_the_package_reads(tmp_path: Path) -> None:
    path = tmp_path / "lists.gguf"
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_array("texts", ["a", "", "é\n", "▁▁"])
    writer.add_array("numbers", [1.5, -2.0])
    writer.add_array("flags", [True, False])
    writer.add_array("nothing", [])
    writer.add_uint32("one", 7)
    writer.add_string("text", "a text")
    writer.add_tensor("w", np.ones((2, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found, expected = quick_reader()(path), gguf.GGUFReader(path)
    for name, field in expected.fields.items():
        assert found.fields[name].contents() == field.contents()
    assert [t.data_offset for t in found.tensors] == [t.data_offset for t in expected.tensors]
