"""What a loaded artifact takes, part by part, by the runtime's memory model. Runs nothing."""

from dataclasses import asdict

from pocketlm.edge_build.backend import Foreseen, LoweringInput
from pocketlm.edge_build.quantization.entries import tensor_entry
from pocketlm.models.weight_shapes import weight_shapes
from pocketlm.runtime_py.engines.onnx.memory import MEMORY
from pocketlm.runtime_py.manifest import MemoryLine
from pocketlm.runtime_py.memory_model import FLOAT_BYTES, ModelShape

# Its activations are the same on every processor.
_ANY_ARCHITECTURE = "aarch64"


def memory_plan(
    source: LoweringInput, foreseen: Foreseen, data_bytes: int
) -> tuple[MemoryLine, ...]:
    """Return the lines of the plan, in calls of a whole chunk.

    Args:
        data_bytes: of the weights file.
    """
    chunk = source.caches.chunk
    shape = ModelShape.of(asdict(source.config), chunk)
    shapes = weight_shapes(source.config)
    tensors = [
        tensor_entry(name, shapes[name], scheme, "")
        for name, scheme in source.weights.schemes.items()
    ]
    packed, _ = MEMORY.packed_bytes(tensors)
    activations, _ = MEMORY.activation_bytes(shape, foreseen, chunk, _ANY_ARCHITECTURE)
    return (
        # Most of these pages are dropped again once the kernels have packed their copy.
        MemoryLine("weights file", "mapped", data_bytes),
        MemoryLine("packed weights", "anonymous", packed),
        MemoryLine("key/value caches", "anonymous", source.caches.size_bytes),
        MemoryLine("logits", "anonymous", FLOAT_BYTES * foreseen.logits_size),
        MemoryLine("activations", "anonymous", activations),
    )
