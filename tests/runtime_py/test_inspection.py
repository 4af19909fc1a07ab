from dataclasses import replace
from typing import Any

import pytest

from pocketlm.runtime_py.inspection import (
    CachePart,
    FilePart,
    OwnGridPart,
    UnquantizedPart,
    WeightPart,
    cache_parts,
    file_parts,
    own_grid_parts,
    unquantized,
    unquantized_parts,
    weight_parts,
)
from pocketlm.runtime_py.manifest import (
    CacheEntry,
    CacheQuantization,
    FileEntry,
    Manifest,
    OwnGridEntry,
    TensorEntry,
)


@pytest.fixture
def manifest(fake_bundle: Any) -> Manifest:
    found: Manifest = fake_bundle.manifest()
    return found


def test_what_was_kept_of_own_grids_is_added_up_by_role_and_over_all(manifest: Manifest) -> None:
    def entry(name: str, own: OwnGridEntry | None) -> TensorEntry:
        return TensorEntry(name, (8, 64), 4, 32, 0, 30.0, "", own)

    tensors = (
        entry("embed_tokens", None),
        entry("layers.0.mlp.up_proj", OwnGridEntry(16, 16, 15, 9)),
        entry("layers.1.mlp.up_proj", OwnGridEntry(16, 16, 16, 16)),
        entry("layers.0.attention.o_proj", OwnGridEntry(8, 7, 7, 0)),
    )
    assert own_grid_parts(replace(manifest, tensors=tensors)) == (
        OwnGridPart("mlp", 2, 32, 32, 31, 25),
        OwnGridPart("attention", 1, 8, 7, 7, 0),
        OwnGridPart("all", 3, 40, 39, 38, 25),
    )
    assert own_grid_parts(replace(manifest, tensors=tensors[:1])) == ()


def test_files_are_added_up_by_top_folder(manifest: Manifest) -> None:
    files = (
        FileEntry("onnx/model.onnx", "", 5),
        FileEntry("onnx/model.onnx.data", "", 7),
        FileEntry("tokenizer.json", "", 3),
    )
    assert file_parts(replace(manifest, files=files)) == (
        FilePart("onnx", 2, 12),
        FilePart("text files", 1, 3),
    )


def test_weights_are_added_up_by_role_and_scheme(manifest: Manifest) -> None:
    def entry(name: str, bits: int, sqnr_db: float | None) -> TensorEntry:
        return TensorEntry(name, (2, 2), bits, None, 10, sqnr_db, "")

    names = ("layers.0.mlp.up_proj", "layers.1.mlp.up_proj", "layers.0.mlp_norm", "norm")
    tensors = (
        entry(names[0], 4, 20.5),
        entry(names[1], 4, 19.5),
        entry("layers.1.mlp.down_proj", 8, 40),
        entry(names[2], 32, None),
        entry("layers.0.attention.q_norm", 32, None),
        entry(names[3], 32, None),
        entry("lm_head", 8, 41),
    )
    assert weight_parts(replace(manifest, tensors=tensors)) == (
        WeightPart("mlp", 4, None, 2, 20, 19.5),
        WeightPart("mlp", 8, None, 1, 10, 40),
        WeightPart("norms", 32, None, 3, 30, None),
        WeightPart("lm_head", 8, None, 1, 10, 41),
    )


def test_caches_are_added_up_by_kind(manifest: Manifest) -> None:
    # Keys and values, 4 bytes, 4 values a slot.
    assert cache_parts("onnx", manifest.backends["onnx"].caches) == (
        CachePart("onnx", "ring", 8, 11, "float32", "none", 2, 2 * 2 * 4 * 4 * 11, 0),
        CachePart("onnx", "linear", None, 64, "float32", "none", 1, 2 * 4 * 4 * 64, 0),
    )


def test_int8_caches_are_told_apart_by_where_their_scales_are() -> None:
    def cache(quantization: CacheQuantization) -> CacheEntry:
        return CacheEntry("linear", 64, None, 2, 16, "int8", quantization)

    caches = (cache("per_token"), cache("per_channel"), cache("per_channel"))
    assert cache_parts("onnx", caches) == (
        # 16 codes, a scale of 4 bytes and a zero point of 1 for each of 2 heads in a slot.
        CachePart("onnx", "linear", None, 64, "int8", "per_token", 1, 2 * 64 * 2 * (16 + 5), 0),
        CachePart(
            *("onnx", "linear", None, 64, "int8", "per_channel", 2),
            size_bytes=2 * 2 * 64 * 2 * 16,
            scale_bytes=2 * 2 * 2 * 16 * 4,
        ),
    )


def test_what_stayed_unquantized_is_listed(manifest: Manifest) -> None:
    assert [entry.name for entry in unquantized(manifest)] == ["layers.0.attention_norm"]
    assert unquantized_parts(manifest) == (UnquantizedPart("norms", "norms stay exact", 1, 128),)
