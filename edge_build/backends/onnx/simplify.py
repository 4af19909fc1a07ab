"""Graph clean-up after tracing: plain reshapes, no repeated nodes, no traces of this machine."""

import numpy as np
import onnx_ir
from onnx_ir.passes import common as passes

PREFIX = "decoder."


def simplify(model: onnx_ir.Model) -> None:
    """Simplify a traced graph in place.

    Reshapes get constant shapes, so that nothing computes shapes at run time, and reshapes of
    reshapes become one. Names lose the exporter's prefix; metadata with file names goes.
    """
    graph = model.graph
    shapes: dict[tuple[int, ...], onnx_ir.Value] = {}
    for node in list(graph):
        if node.op_type == "Reshape":
            _shorten_chain(node)
            _fix_shape(node, shapes)
    for clean in (
        passes.IdentityEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.ClearMetadataAndDocStringPass(),
    ):
        clean(model)
    for value in list(graph.initializers.values()):
        if value.name is not None and value.name.startswith(PREFIX):
            value.name = value.name.removeprefix(PREFIX)


def _shorten_chain(node: onnx_ir.Node) -> None:
    """Read from before an earlier reshape; leave the node unused where nothing changes."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    producer = source.producer()
    if producer is not None and producer.op_type == "Reshape":
        source = producer.inputs[0]
        assert source is not None
        node.replace_input_with(0, source)
    if source.shape is not None and source.shape == result.shape and not result.is_graph_output():
        result.replace_all_uses_with(source)


def _fix_shape(node: onnx_ir.Node, shapes: dict[tuple[int, ...], onnx_ir.Value]) -> None:
    """Give a reshape a constant shape if at most one axis is free."""
    shape, graph = node.outputs[0].shape, node.graph
    assert graph is not None
    if shape is None or sum(not isinstance(size, int) for size in shape) > 1:
        return
    sizes = tuple(size if isinstance(size, int) else -1 for size in shape)
    if sizes not in shapes:
        tensor = onnx_ir.tensor(np.array(sizes, np.int64))
        constant = onnx_ir.node("Constant", [], {"value": tensor})
        constant.outputs[0].name = "shape_" + "_".join(map(str, sizes)).replace("-1", "free")
        graph.insert_before(graph[0], constant)
        shapes[sizes] = constant.outputs[0]
    node.replace_input_with(1, shapes[sizes])
    node.attributes["allowzero"] = onnx_ir.AttrInt64("allowzero", 0)
