"""One build for ONNX Runtime: trace, simplify, attach weights, describe."""

from dataclasses import replace
from pathlib import Path

import onnx_ir

from pocketlm.edge_build.backend import Artifact, LoweringInput
from pocketlm.edge_build.backends.onnx.choices import (
    ACTIVATIONS,
    SESSION_OPTIONS,
    plan_artifact,
    rounded_attention,
)
from pocketlm.edge_build.backends.onnx.external_data import attach_weights
from pocketlm.edge_build.backends.onnx.genai_config import (
    GENAI_CONFIG_NAME,
    genai_config,
    runs_in_genai,
)
from pocketlm.edge_build.backends.onnx.kept_graph import graph_from_bytes, graph_key, graph_to_bytes
from pocketlm.edge_build.backends.onnx.kinds import free_axes, runtime_floor
from pocketlm.edge_build.backends.onnx.simplify import PREFIX, simplify
from pocketlm.edge_build.backends.onnx.tracing import stored_tensors, trace
from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.components import DECODER, Component, Signature, TensorSignature
from pocketlm.runtime_py.manifest import ActivationQuantization

MODEL = "onnx/model.onnx"

# Every runtime of the floors below reads it; they stop at 11 to 13.
_IR_VERSION = 10


def lower_model(source: LoweringInput, bundle: Path) -> Artifact:
    """Write model.onnx, model.onnx.data and, where it applies, genai_config.json."""
    model_file, data_file = bundle / MODEL, bundle / f"{MODEL}.data"
    model_file.parent.mkdir(parents=True, exist_ok=True)
    source.advance(0, 3, "tracing")
    planned = plan_artifact(source.config, source.caches, source.options)
    caches = planned.caches
    plan = replace(source.caches, layers=caches)
    arguments = (source.config, source.weights, plan, source.kv_scales)
    tensors = {name.removeprefix(PREFIX): t for name, t in stored_tensors(*arguments).items()}

    def graph() -> bytes:
        traced = trace(*arguments)
        simplify(traced)
        return graph_to_bytes(traced, tensors)

    model = graph_from_bytes(source.lowered.get(graph_key(source, plan), graph))
    source.advance(1, 3, "writing weights")
    attach_weights(model, tensors, data_file)
    source.advance(2, 3, "writing the graph")
    _describe(model, source.config, plan)
    onnx_ir.save(model, model_file)
    files = [MODEL, f"{MODEL}.data"]
    if runs_in_genai(source.config, plan):
        text = genai_config(replace(source, caches=plan), MODEL, SESSION_OPTIONS)
        (bundle / GENAI_CONFIG_NAME).write_text(text, encoding="utf-8")
        files.append(GENAI_CONFIG_NAME)
    source.advance(3, 3, "done")
    return Artifact(
        model=MODEL,
        files=tuple(files),
        activation_quantization=_activation_quantization(source),
        runtime_floor={"onnxruntime": runtime_floor(source.config, caches)},
        caches=caches,
        rewind_tokens=plan.rewind_tokens,
        logits_size=planned.logits_size,
        logits_rows=planned.logits_rows,
        components=(_decoder(model.graph, len(caches)),),
        options=planned.options,
        attention_quantization=rounded_attention(source.config, plan),
    )


def _describe(model: onnx_ir.Model, config: ModelConfig, plan: CachePlan) -> None:
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version = "pocketlm", None
    model.graph.name = config.model_type
    model.metadata_props["prefill_chunk"] = str(plan.chunk)
    for cache, axis in zip(plan.layers, free_axes(config, plan.layers), strict=True):
        if axis is not None:
            model.metadata_props[axis] = str(cache.capacity)


def _decoder(graph: onnx_ir.Graph, layers: int) -> Component:
    signature = Signature(
        tuple(map(_tensor_signature, graph.inputs)), tuple(map(_tensor_signature, graph.outputs))
    )
    return Component(DECODER, MODEL, graph.name, signature, tuple(range(layers)))


def _tensor_signature(value: onnx_ir.Value) -> TensorSignature:
    assert value.dtype is not None and value.shape is not None, f"{value.name} has no type"
    # An axis is a number, or a name.
    shape = (size if isinstance(size, int) else size.value for size in value.shape)
    return TensorSignature(value.name, value.dtype.numpy().name, tuple(shape))


def _activation_quantization(source: LoweringInput) -> ActivationQuantization:
    quantized = any(scheme is not None for scheme in source.weights.schemes.values())
    return ACTIVATIONS if quantized else "none"
