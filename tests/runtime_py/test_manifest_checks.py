"""What is wrong in a manifest.json is named, with what to do."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.manifests import error_of

MEASURED = {"kv": "int8", "kl_nats": 0.1, "size_bytes": 100}
CHANGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda d: d.pop("format_version"), "format_version is missing"),
    (lambda d: d.pop("stop_ids"), "stop_ids is missing"),
    (lambda d: d["backends"]["onnx"].pop("caches"), "backends.onnx.caches is missing"),
    (lambda d: d.update(context_length="64"), "context_length: expected an integer, found '64'"),
    (lambda d: d["model"].pop("vocab_size"), "model.vocab_size is missing"),
    (lambda d: d["model"].update(vocab_size="9"), "model.vocab_size: expected an integer"),
    (lambda d: d["model"].update(vocab_size=0), "model.vocab_size: 0 is not between 1 and"),
    (
        lambda d: d["model"]["layers"][0].update(head_dim=0),
        "model.layers[0].head_dim: 0 is not between 1 and 2147483647",
    ),
    (lambda d: d["model"].update(hidden_size=-1), "model.hidden_size: -1 is not between 1 and"),
    (lambda d: d["model"].update(hidden_size=10**310), "model.hidden_size: 1000"),
    (
        lambda d: d["model"]["layers"][0].update(num_key_value_heads=0),
        "model.layers[0].num_key_value_heads: 0 is not",
    ),
    (
        lambda d: d["model"]["layers"][2].update(num_key_value_heads=4),
        "model.layers[2].num_attention_heads: 2 is no multiple of num_key_value_heads=4",
    ),
    (lambda d: d["model"]["layers"][0].update(kv_from=0), "model.layers[0].kv_from: 0 is not"),
    (
        lambda d: [d["model"]["layers"][i].update(kv_from=i - 1) for i in (1, 2)],
        "model.layers[2].kv_from: layer 1 has no keys and values of its own",
    ),
    (
        lambda d: d["model"]["layers"][1].update(kv_from=0),
        "backends.executorch.caches: 3 for 2 layers; each layer has one, but for those that read",
    ),
    (lambda d: d["model"].update(layers=7), "model.layers: expected a list, found 7"),
    (lambda d: d["model"].update(layers=[]), "model.layers: there are none"),
    (lambda d: d["model"].pop("attention_softcap"), "model.attention_softcap is missing"),
    (lambda d: d["model"].update(attention_softcap=""), "attention_softcap: expected a number"),
    (lambda d: d["model"].update(layers=[{}]), "model.layers[0].num_attention_heads is missing"),
    (lambda d: d["model"]["layers"][0].update(window=[]), "layers[0].window: expected an integer"),
    (lambda d: d["model"]["layers"][0].update(rope_theta=[]), "layers[0].rope_theta: expected a"),
    (lambda d: d["model"]["layers"][0].update(rope_factor="1"), "layers[0].rope_factor: expected"),
    (
        lambda d: d["model"].update(layers=d["model"]["layers"][:1]),
        "backends.executorch.caches: 3 for 1 layers",
    ),
    (lambda d: d.update(context_length=2**31), "context_length: 2147483648 is not between 1 and"),
    (lambda d: d.update(bos_id=-1), "stop_ids and bos_id: -1 is not between 0 and"),
    (lambda d: d.update(stop_ids=[10**6]), "stop_ids and bos_id: 1000000 is not between 0 and"),
    (lambda d: d["tensors"].pop(0), "tensors: no embed_tokens with rows and columns is listed"),
    (lambda d: d["tensors"].append(d["tensors"][0]), "tensors: 'embed_tokens' is listed twice"),
    (lambda d: d["tensors"][1].update(shape=[]), "tensors[1].shape: [] has not one or two axes"),
    (lambda d: d["tensors"][1].update(shape=[0, 2]), "tensors[1].shape: 0 is not between 1 and"),
    (
        lambda d: d["tensors"][1].update(
            own_grid={"groups": 4, "on_grid": 3, "codes_kept": 4, "kept": 0}
        ),
        "tensors[1].own_grid.codes_kept: 4 is not between 0 and 3",
    ),
    (lambda d: d["tensors"][1].update(bits=5), "tensors[1].bits: 5 is none of 4, 8, 32"),
    (lambda d: d["tensors"][1].update(group_size=0), "tensors[1].group_size: 0 is not between"),
    (lambda d: d["recipe_rules"][1].update(bits=3), "recipe_rules[1].bits: 3 is none of 4, 8, 32"),
    (lambda d: d["recipe_rules"][0].update(group_size=0), "recipe_rules[0].group_size: 0 is not"),
    (lambda d: d["tensors"][1].update(size_bytes=-5), "tensors[1].size_bytes: -5 is not between"),
    (lambda d: d["files"][1].update(size_bytes=10**310), "files[1].size_bytes: 1000"),
    (lambda d: d["files"][1].update(path="a\x1b[2J"), "files[1].path: 'a\\x1b[2J' leaves"),
    (lambda d: d["backends"]["onnx"].update(logits_size=0), "backends.onnx.logits_size: 0 is not"),
    (
        lambda d: d["backends"]["onnx"].update(logits_rows=5),
        "backends.onnx.logits_rows: 5 is not between 1 and 4",
    ),
    (lambda d: d["backends"]["onnx"].update(rewind_tokens=-1), "onnx.rewind_tokens: -1 is not"),
    *(
        (
            lambda d, change=change: d["backends"]["onnx"]["components"][0].update(change),  # type: ignore[misc]
            f"backends.onnx.components{message}",
        )
        for change, message in (
            ({"planned_bytes": -1}, "[0].planned_bytes: -1 is not between 0 and"),
            ({"file": "onnx/other"}, "[0].file: 'onnx/other' is not among the files"),
            ({"name": "vision"}, ": found 'vision'; each has a name of its own, and one is 'decod"),
            ({"caches": [0, 1]}, ": they hold the caches [0, 1]; expected each of the 3 once"),
            ({"caches": [0, 1, 2, 2]}, ": they hold the caches [0, 1, 2, 2]; expected each of the"),
            ({"signature": {"inputs": []}}, "[0].signature.outputs is missing"),
        )
    ),
    (
        lambda d: d["backends"]["onnx"]["components"][0]["signature"]["inputs"][0].update(
            shape=[1, 2.5]
        ),
        "signature.inputs[0].shape[1]: expected an integer or a string, found 2.5 (a number)",
    ),
    (lambda d: d["backends"]["onnx"].update(components=[]), "onnx.components: found none; each"),
    (
        lambda d: d["backends"]["onnx"]["components"].append(
            d["backends"]["onnx"]["components"][0]
        ),
        "backends.onnx.components: found 'decoder', 'decoder'; each has a name of its own",
    ),
    *(
        (
            lambda d, key=key: d["backends"]["onnx"]["caches"][1].update({key: 0}),  # type: ignore[misc]
            f"backends.onnx.caches[1].{key}: 0 is not between 1 and",
        )
        for key in ("capacity", "window", "num_key_value_heads", "head_dim")
    ),
    (
        lambda d: d["backends"]["onnx"]["caches"][1].update(kind="round"),
        "backends.onnx.caches[1].kind: expected one of linear, ring, windowed, found 'round'",
    ),
    *(
        (
            lambda d, window=window: d["backends"]["onnx"]["caches"][1].update(window=window),  # type: ignore[misc]
            f"backends.onnx.caches[1].window: {window} in a cache of kind 'ring' with 11 slots",
        )
        for window in (None, 12)
    ),
    (lambda d: d.update(prefill_chunk=65), "prefill_chunk: 65 is not between 1 and"),
    (lambda d: d.update(prefill_chunk=0), "prefill_chunk: 0 is not between 1 and"),
    (lambda d: d["files"].append(d["files"][0]), "is listed twice"),
    (
        lambda d: d["backends"]["onnx"].update(model="onnx/other"),
        "backends.onnx.model: 'onnx/other' is not among the files",
    ),
    (
        lambda d: d["backends"]["onnx"]["caches"][2].update(dtype="float64"),
        "backends.onnx.caches[2].dtype: 'float64' is unknown; known: float32, int8",
    ),
    (
        lambda d: d["backends"]["onnx"]["caches"][2].update(dtype="int8"),
        "backends.onnx.caches[2].quantization: 'none' contradicts dtype 'int8'",
    ),
    (
        lambda d: d["backends"]["onnx"]["caches"][1].update(quantization="per_token"),
        "backends.onnx.caches[1].quantization: 'per_token' contradicts dtype 'float32'",
    ),
    (
        lambda d: d["backends"]["onnx"].update(attention_quantization="kv_per_channel"),
        "backends.onnx.attention_quantization: 'kv_per_channel' contradicts the quantization "
        "'none' of caches[0]; expected 'per_channel' there",
    ),
    (
        lambda d: (
            d["backends"]["onnx"].update(attention_quantization="kv_per_channel"),
            d["backends"]["onnx"]["caches"][1].update(dtype="int8", quantization="per_token"),
            d["backends"]["onnx"]["caches"][2].update(dtype="int8", quantization="per_channel"),
        ),
        "backends.onnx.attention_quantization: 'kv_per_channel' contradicts the quantization "
        "'per_token' of caches[1]; expected 'per_channel' there",
    ),
    (
        lambda d: d["backends"]["onnx"]["caches"][2].update(dtype="int8", quantization="per_token"),
        "backends.onnx.attention_quantization: 'none' contradicts the quantization "
        "'per_token' of caches[2]; expected 'none' there",
    ),
    (
        lambda d: d["backends"]["onnx"].update(kv_measured=[{**MEASURED, "kv": "int4"}]),
        "backends.onnx.kv_measured[0].kv: expected one of float32, int8, int8-local, int8-global, "
        "found 'int4'",
    ),
    (
        lambda d: d["backends"]["onnx"].update(kv_measured=[MEASURED, MEASURED]),
        "backends.onnx.kv_measured: 'int8' is listed twice",
    ),
    (
        lambda d: d["backends"]["onnx"].update(kv_measured=[{**MEASURED, "kl_nats": -0.1}]),
        "backends.onnx.kv_measured[0].kl_nats: -0.1 is below zero",
    ),
    (
        lambda d: d["backends"]["onnx"].update(kv_measured=[{**MEASURED, "size_bytes": -1}]),
        "backends.onnx.kv_measured[0].size_bytes: -1 is not between 0 and",
    ),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_wrong_field_is_named_with_what_to_do(
    document: dict[str, Any], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    change(document)
    found = error_of(document)
    assert message in found
    assert found.startswith("manifest.json: ")
    assert "build the bundle again" in found


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "onnx/../../outside",
        "/etc/passwd",
        "C:/windows",
        "c:model",
        "onnx\\model",
        "onnx//model",
        "./model",
        "onnx/.",
        "onnx/",
        "",
        "a\0b",
    ],
)
@pytest.mark.parametrize("role", ["files", "model", "golden"])
def test_a_path_that_leaves_the_bundle_is_refused(
    document: dict[str, Any], path: str, role: str
) -> None:
    if role == "files":
        document["files"][0]["path"] = path
    else:
        document["backends"]["onnx"][role] = path
    message = error_of(document)
    assert f"{path!r} leaves the bundle" in message
    assert "files[0].path" in message if role == "files" else f"onnx.{role}" in message
