"""What a manifest says of a weight, from its shape and scheme alone."""

import math

from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.runtime_py.manifest import TensorEntry


def tensor_entry(
    name: str, shape: tuple[int, ...], scheme: QuantScheme | None, reason: str
) -> TensorEntry:
    """Return the entry of a weight whose numbers nobody read; without a scheme it is float32."""
    if scheme is None:
        return TensorEntry(name, shape, 32, None, 4 * math.prod(shape), None, reason)
    # Codes, and a scale of two bytes a group.
    size_bytes = math.prod(shape) * scheme.bits // 8 + 2 * shape[0] * scheme.groups(shape[1])
    size_bytes += scheme.zero_point_bytes(shape[0], shape[1])
    return TensorEntry(name, shape, scheme.bits, scheme.group_size, size_bytes, None, reason)
