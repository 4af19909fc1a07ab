"""What the lowered_onnx files hold: the operators meant, weights once, cache bytes to the byte."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from pocketlm.edge_build.backends.onnx.metadata import kv_cache_bytes
from pocketlm.edge_build.lowered_cache import NO_CACHE
from pocketlm.runtime_py.kv_choice import KvName
from tests.artifacts import CHUNK, CONTEXT, Build, lowered_onnx, write
from tests.conftest import WINDOW
from tests.kept import kept_bytes

SLOTS = WINDOW + CHUNK - 1
LOCAL = ("windowed", "ring")


def nodes(graph: onnx_ir.Graph, operator: str) -> list[onnx_ir.Node]:
    return [node for node in graph if node.op_type == operator]


def attributes(node: onnx_ir.Node) -> dict[str, object]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def external(graph: onnx_ir.Graph, name: str) -> onnx_ir.ExternalTensor:
    tensor = graph.initializers[name].const_value
    assert isinstance(tensor, onnx_ir.ExternalTensor)
    return tensor


def test_windowed_layers_are_group_query_attention_with_an_evicting_cache() -> None:
    attention = nodes(lowered_onnx(Build("gemma2")).graph, "GroupQueryAttention")
    local, full, _ = (attributes(node) for node in attention)
    assert local["sliding_window_cache"] == 1
    assert local["local_window_size"] == WINDOW
    assert local["softcap"] == full["softcap"] == 5.0
    assert "sliding_window_cache" not in full
    assert "local_window_size" not in full


def test_ring_layers_scatter_in_a_circle_before_they_attend() -> None:
    graph = lowered_onnx(Build("gemma2", local_cache="ring")).graph
    scatters = nodes(graph, "TensorScatter")
    assert len(scatters) == 4
    assert all(attributes(node)["mode"] == "circular" for node in scatters)
    for node in nodes(graph, "Attention"):
        key, value = node.inputs[1], node.inputs[2]
        assert key is not None and key.producer() in scatters
        assert value is not None and value.producer() in scatters
        assert attributes(node)["softcap"] == 5.0
    assert len(nodes(graph, "GroupQueryAttention")) == 1


def scales_of(node: onnx_ir.Node) -> list[str | None]:
    return [value.name for value in node.inputs[12:14] if value is not None]


def test_int8_caches_are_read_by_the_kernel_with_constant_scales() -> None:
    built = lowered_onnx(Build("gemma2", kv="int8"))
    for layer, node in enumerate(nodes(built.graph, "GroupQueryAttention")):
        found = attributes(node)
        assert found["k_quant_type"] == found["v_quant_type"] == "PER_CHANNEL"
        assert found["kv_cache_bit_width"] == 8
        assert found["softcap"] == 5.0 and found["do_rotary"] == 1
        names = [f"cache_scales.{kind}_{layer}" for kind in ("key", "value")]
        assert scales_of(node) == names
        kept = built.graph.initializers[names[0]].const_value
        assert kept is not None and built.source.kv_scales is not None
        assert (kept.numpy()[0, :, 0] == built.source.kv_scales.keys[layer]).all()
    assert not nodes(built.graph, "DequantizeLinear")
    caches = [v for v in built.graph.inputs if str(v.name).startswith("past_key_values.")]
    assert {value.dtype for value in caches} == {onnx_ir.DataType.INT8}


def test_rings_of_codes_are_written_as_codes_and_scaled_outside() -> None:
    graph = lowered_onnx(Build("gemma3_text", local_cache="ring", kv="int8")).graph
    scatters = nodes(graph, "TensorScatter")
    assert len(scatters) == len(nodes(graph, "QuantizeLinear")) == 2
    for scatter in scatters:
        update = scatter.inputs[1]
        assert update is not None and update.producer() in nodes(graph, "QuantizeLinear")
    for node in nodes(graph, "Attention"):
        for operand in node.inputs[1:3]:
            cast = operand.producer() if operand is not None else None
            assert cast is not None and cast.op_type == "Cast"
            assert cast.inputs[0] is not None and cast.inputs[0].producer() in scatters


def test_layers_of_a_kind_share_one_mask() -> None:
    graph = lowered_onnx(Build("gemma3_text", local_cache="ring")).graph
    assert len({node.inputs[3] for node in nodes(graph, "Attention")}) == 1
    assert len(nodes(graph, "Where")) == 1


@pytest.mark.parametrize(
    ("recipe", "bits", "block"),
    [("int4-g32", 4, 32), ("int4-channel", 4, 128), ("int8-channel", 8, 128)],
)
def test_every_linear_layer_is_matmulnbits_with_zero_points(
    recipe: str, bits: int, block: int
) -> None:
    built = lowered_onnx(Build("qwen3", recipe))
    graph = built.graph
    linear = nodes(graph, "MatMulNBits")
    assert len(linear) == built.source.config.num_layers * 5 + 1
    *layers, _head = linear
    for node in layers:
        found = attributes(node)
        assert (found["bits"], found["block_size"], found["accuracy_level"]) == (bits, block, 4)
    for node in linear:
        zero_points = node.inputs[3]
        assert zero_points is not None and zero_points.const_value is not None
        byte = 0x88 if bits == 4 else 0x80
        assert (zero_points.const_value.numpy() == byte).all()
    assert not nodes(graph, "MatMul") and not nodes(graph, "DequantizeLinear")


def test_queries_keys_and_values_are_one_product_of_joined_rows() -> None:
    built = lowered_onnx(Build("qwen3", "int4-g32"))
    splits = nodes(built.graph, "Split")
    assert len(splits) == built.source.config.num_layers
    weights = built.source.weights
    names = [f"layers.1.attention.{name}_proj" for name in "qkv"]
    product = splits[1].inputs[0]
    assert product is not None
    joined = product.producer()
    assert joined is not None and joined.op_type == "MatMulNBits"
    codes, scales = (value.const_value for value in joined.inputs[1:3] if value is not None)
    assert codes is not None and scales is not None
    stored = [weights.quantized(name) for name in names]
    rows = [weight.out_features for weight in stored]
    sizes = splits[1].inputs[1]
    assert sizes is not None and sizes.const_value is not None
    assert sizes.const_value.numpy().tolist() == rows
    assert codes.numpy().tobytes() == b"".join(weight.packed.tobytes() for weight in stored)
    assert (scales.numpy() == np.concatenate([weight.scales for weight in stored])).all()


def test_float_weights_stay_three_products() -> None:
    assert not nodes(lowered_onnx(Build("qwen3", "none")).graph, "Split")


@pytest.mark.parametrize("recipe", ["int4-g32", "int8-channel"])
def test_a_tied_table_is_stored_once(recipe: str) -> None:
    graph = lowered_onnx(Build("gemma3_text", recipe)).graph
    table, head = (external(graph, f"{name}.codes") for name in ("embed_tokens", "lm_head"))
    assert table.shape != head.shape
    assert (table.offset, table.length) == (head.offset, head.length)


def test_a_tied_float_table_is_stored_once() -> None:
    graph = lowered_onnx(Build("gemma3_text", "none")).graph
    table, head = (external(graph, f"{name}.weight") for name in ("embed_tokens", "lm_head"))
    assert (table.offset, table.length) == (head.offset, head.length)


def test_external_tensors_start_on_pages() -> None:
    graph = lowered_onnx(Build("gemma3_text", "int4-g32")).graph
    tensors = [value.const_value for value in graph.initializers.values()]
    offsets = [t.offset for t in tensors if isinstance(t, onnx_ir.ExternalTensor)]
    assert offsets
    assert all(offset is not None and offset % 4096 == 0 for offset in offsets)


@pytest.mark.parametrize("kv", ["float32", "int8"])
@pytest.mark.parametrize("local_cache", LOCAL)
@pytest.mark.parametrize("family", ["gemma3_text", "qwen3"])
def test_cache_bytes_in_the_file_equal_the_plan(family: str, local_cache: str, kv: KvName) -> None:
    built = lowered_onnx(Build(family, local_cache=local_cache, kv=kv))
    planned = sum(cache.size_bytes for cache in built.source.caches.layers)
    assert kv_cache_bytes(built.model_file) == planned == built.entry.kv_cache_bytes


def test_stock_runners_find_the_logits_of_the_last_token_alone() -> None:
    logits, *present, rows = lowered_onnx(Build("gemma3_text")).graph.outputs
    assert logits.name == "logits"
    assert logits.shape == onnx_ir.Shape([1, 1, 512])
    assert all("present" in value.name for value in present)
    assert rows.name == "logits_rows"
    assert rows.shape == onnx_ir.Shape([1, "rows", 512])


def test_a_graph_with_one_row_of_logits_has_no_other_output() -> None:
    built = lowered_onnx(Build("qwen3", chunk=1))
    assert built.artifact.logits_rows == 1
    assert [value.name for value in built.graph.outputs if "logits" in value.name] == ["logits"]


# Codes in windows: test_onnx_graph_cache.py lowers them cold.
@pytest.mark.parametrize(("local_cache", "kv"), [("windowed", "float32"), ("ring", "int8")])
def test_same_input_gives_same_bytes(local_cache: str, kv: KvName, tmp_path: Path) -> None:
    built = lowered_onnx(Build("gemma3_text", "int4-g32", local_cache, kv=kv))

    def digests(folder: Path) -> bytes:
        found = {n: hashlib.sha256((folder / n).read_bytes()) for n in built.artifact.files}
        return "\n".join(f"{name} {sha256.hexdigest()}" for name, sha256 in found.items()).encode()

    def again() -> bytes:
        uncached = replace(built.source, lowered=NO_CACHE)
        return digests(write("onnx", uncached, tmp_path / "again")[1])

    assert kept_bytes(__file__, f"{local_cache} {kv}", again) == digests(built.folder)


def test_files_name_no_path_of_this_machine() -> None:
    text = lowered_onnx(Build("gemma3_text")).model_file.read_bytes()
    assert b".py" not in text
    assert str(Path(__file__).parents[3]).encode() not in text


@pytest.mark.parametrize(
    ("build", "floor", "rewind", "opset"),
    [
        (Build("gemma3_text"), "1.29", 0, 23),
        (Build("gemma3_text", local_cache="ring"), "1.25", CHUNK, 24),
        (Build("qwen3"), "1.23", None, 23),
        (Build("gemma3_text", kv="int8"), "1.29", 0, 23),
        (Build("gemma3_text", local_cache="ring", kv="int8"), "1.27", CHUNK, 24),
        (Build("qwen3", kv="int8"), "1.27", None, 23),
    ],
    ids=str,
)
def test_floor_and_rewind_follow_from_the_caches(
    build: Build, floor: str, rewind: int | None, opset: int
) -> None:
    built = lowered_onnx(build)
    assert built.artifact.runtime_floor == {"onnxruntime": floor}
    assert built.artifact.rewind_tokens == rewind
    model = onnx_ir.load(built.model_file)
    assert model.opset_imports[""] == opset
    assert model.ir_version == 10


@pytest.mark.parametrize("kv", ["float32", "int8"])
@pytest.mark.parametrize("local_cache", LOCAL)
def test_the_decoder_is_what_the_runtime_finds(local_cache: str, kv: KvName) -> None:
    import onnxruntime

    built = lowered_onnx(Build("gemma3_text", "int4-g32", local_cache, kv=kv))
    (decoder,) = built.artifact.components
    session = onnxruntime.InferenceSession(built.model_file)
    assert (decoder.name, decoder.file) == ("decoder", built.artifact.model)
    assert decoder.entry_point == session.get_modelmeta().graph_name
    assert decoder.caches == tuple(range(built.source.config.num_layers))
    assert decoder.signature is not None and decoder.planned_bytes is None
    for ours, found in (
        (decoder.signature.inputs, session.get_inputs()),
        (decoder.signature.outputs, session.get_outputs()),
    ):
        assert [tensor.name for tensor in ours] == [tensor.name for tensor in found]
        assert [list(tensor.shape) for tensor in ours] == [tensor.shape for tensor in found]
    assert {tensor.dtype for tensor in decoder.signature.inputs} == {"int64", kv}


def test_genai_config_says_window_capacity_and_stop_ids() -> None:
    built = lowered_onnx(Build("gemma3_text"))
    document = json.loads((built.folder / "genai_config.json").read_text())
    decoder = document["model"]["decoder"]
    assert document["model"]["type"] == "gemma3_text"
    assert document["model"]["eos_token_id"] == [1, 106]
    assert decoder["filename"] == "onnx/model.onnx"
    assert decoder["sliding_window"]["layers"] == [0, 2]
    window, slack = (decoder["sliding_window"][k] for k in ("window_size", "cache_slack"))
    assert window + slack == SLOTS
    assert document["search"]["chunk_size"] == CHUNK
    assert document["search"]["max_length"] == CONTEXT


def test_rings_come_without_a_genai_config() -> None:
    # The stock runner cuts only a first prompt: later ones would overrun the ring unnoticed.
    built = lowered_onnx(Build("gemma3_text", local_cache="ring"))
    assert "genai_config.json" not in built.artifact.files
    assert not (built.folder / "genai_config.json").exists()
