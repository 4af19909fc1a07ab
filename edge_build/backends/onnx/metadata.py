"""What model.onnx says of its caches: free axes, their full sizes, and so their bytes."""

from pathlib import Path

import onnx_ir

from runtime_py.manifest import CacheEntry


def free_axis(cache: CacheEntry) -> str | None:
    """Name the axis of slots where the graph leaves it open; None where it is fixed.

    Stock runners allocate fewer slots when they are asked for fewer tokens, and only a true ring
    depends on their number. The full number stands in the metadata under the axis' name.
    """
    if cache.kind == "ring":
        return None
    return "context_length" if cache.kind == "linear" else f"window_{cache.window}_slots"


def kv_cache_bytes(model: Path) -> int:
    """Return the bytes of all keys and values at full context, read from the artifact alone."""
    loaded = onnx_ir.load(model)
    total = 0
    for value in loaded.graph.inputs:
        if value.name is None or not value.name.startswith("past_key_values."):
            continue
        assert value.shape is not None and value.dtype is not None
        size = value.dtype.itemsize
        for axis in value.shape:
            size *= axis if isinstance(axis, int) else int(loaded.metadata_props[str(axis.value)])
        total += int(size)
    return total
