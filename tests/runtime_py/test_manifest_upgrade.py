"""A manifest that the last commit of format 1 wrote, and what is damaged in one."""

import json
from typing import Any

import pytest

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.manifest import FORMAT_VERSION, Manifest
from tests.older_bundles import FORMAT_1, signed


def test_a_manifest_of_format_1_is_read_as_one_of_today() -> None:
    document, manifest = json.loads(FORMAT_1), Manifest.from_json(FORMAT_1)
    assert (document["format_version"], manifest.format_version) == (1, FORMAT_VERSION)
    assert manifest.vocab_size == document["model"]["vocab_size"]
    assert len(manifest.tensors) == len(document["tensors"])
    assert sorted(manifest.backends) == sorted(document["backends"])
    for name, entry in manifest.backends.items():
        recorded = document["backends"][name]
        assert entry.decoder.file == recorded["model"]
        assert len(entry.decoder.caches) == len(entry.caches) == len(recorded["caches"])
        assert entry.decoder.signature is None
    # What the program plans was a line of the plan; ONNX Runtime's allocates as it goes.
    planned = {name: entry.decoder.planned_bytes for name, entry in manifest.backends.items()}
    assert planned == {"executorch": 340_288, "onnx": None}
    # What is in memory is of today's format, and is written so.
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_sizes_of_layers_stand_in_each_layer() -> None:
    older, model = json.loads(FORMAT_1)["model"], Manifest.from_json(FORMAT_1).model
    sizes = ("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size")
    assert model.keys() == older.keys() - {*sizes}
    for layer, before in zip(model["layers"], older["layers"], strict=True):
        expected = {name: older[name] for name in sizes}
        assert layer == {**before, **expected, "rotary_dim": None, "kv_from": None}


def test_the_digest_of_an_older_manifest_is_that_of_what_was_written() -> None:
    text = FORMAT_1.replace('"recipe": "int4-g32"', '"recipe": "int4-g64"')
    assert text != FORMAT_1
    with pytest.raises(RunError, match="was changed after the build"):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model", 7, "model: expected an object, found 7"),
        ("model", {"layers": [7]}, "model.model_type is missing"),
        ("backends", [], "backends: expected an object"),
        ("backends", {"onnx": 3}, "backends.onnx: expected an object, found 3"),
        ("backends", {"onnx": {"caches": 3}}, "backends.onnx.model is missing"),
        ("backends", {"onnx": {"memory_plan": [3]}}, "backends.onnx.model is missing"),
    ],
)
def test_what_is_damaged_in_an_older_manifest_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        Manifest.from_json(signed({**json.loads(FORMAT_1), name: value}))
