"""A simplified graph without its weights, as the cache of lowered programs keeps it."""

from collections.abc import Mapping

import onnx
import onnx_ir

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.onnx.stored import StoredTensor
from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.edge_build.lowering_key import lowering_key


def graph_to_bytes(model: onnx_ir.Model, tensors: Mapping[str, StoredTensor]) -> bytes:
    """Return what `graph_from_bytes` reads. Changes the model: initializers get placeholders.

    Args:
        tensors: those whose bytes come later, by initializer name.
    """
    for name, value in model.graph.initializers.items():
        if name in tensors:
            dtype = onnx_ir.DataType.from_numpy(tensors[name].dtype)
            shape = onnx_ir.Shape(tensors[name].shape)
            value.const_value = onnx_ir.ExternalTensor("later", 0, 0, dtype, shape=shape, name=name)
    data: bytes = onnx_ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def graph_from_bytes(data: bytes) -> onnx_ir.Model:
    """Return the model; initializers whose bytes come later are placeholders."""
    model: onnx_ir.Model = onnx_ir.from_proto(onnx.ModelProto.FromString(data))
    return model


def graph_key(source: LoweringInput, plan: CachePlan) -> str:
    """Return the digest of everything that determines a simplified graph.

    Args:
        plan: the caches as this build keeps them.
    """
    return lowering_key(source, plan, "pocketlm.edge_build.backends.onnx.lowering")
