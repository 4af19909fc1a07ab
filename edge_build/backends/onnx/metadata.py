"""What model.onnx says of its caches: the bytes of its free axes at full size."""

from pathlib import Path

import onnx_ir


def kv_cache_bytes(model: Path) -> int:
    """Return the bytes of all keys and values at full context, read from the artifact alone."""
    return sum(cache_input_bytes(model).values())


def cache_input_bytes(model: Path) -> dict[str, int]:
    """Return the same for each of the graph's inputs that is a cache, by its name."""
    loaded = onnx_ir.load(model)
    sizes = {}
    for value in loaded.graph.inputs:
        if value.name is None or not value.name.startswith("past_key_values."):
            continue
        assert value.shape is not None and value.dtype is not None
        size = value.dtype.itemsize
        for axis in value.shape:
            size *= axis if isinstance(axis, int) else int(loaded.metadata_props[str(axis.value)])
        sizes[value.name] = int(size)
    return sizes
