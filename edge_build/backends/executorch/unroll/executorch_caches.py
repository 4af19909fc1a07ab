"""Clears the caches in which executorch and torch keep the last program that was lowered."""

from torch.export import ExportedProgram


def clear_executorch_caches(program: ExportedProgram) -> None:
    """Drop the references that keep the last program's graphs and weights.

    Args:
        program: that was lowered. Its symbolic sizes have a cache of traced calls of their own, in
            a cycle through C++ that Python cannot collect.

    A cache of compared nodes and each partitioner module's note of the last node that it refused
    point into the graph, and a graph points at its weights: 440 MB at four layers of the Gemma 3
    270M shape, which the golden answers would have to share the memory with. torch's cache of
    traced calls can hold a delegate.
    """
    from executorch.backends.xnnpack.partition.config import (
        gemm_configs,
        generic_node_configs,
        node_configs,
        xnnpack_config,
    )
    from executorch.exir.backend.utils import is_same_node
    from torch._subclasses import FakeTensor, FakeTensorMode

    FakeTensorMode.cache_clear()
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor) and value.fake_mode.shape_env is not None:
            value.fake_mode.shape_env.fake_tensor_cache.clear()
    is_same_node.cache_clear()
    for module in (gemm_configs, generic_node_configs, node_configs, xnnpack_config):
        module.why.node = None
