"""What a loaded artifact takes, part by part: estimates from shapes. Runs nothing."""

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.onnx.blocks import BlockedWeight
from pocketlm.runtime_py.manifest import MemoryLine

_FLOAT_BYTES = 4


def memory_plan(source: LoweringInput, data_bytes: int) -> tuple[MemoryLine, ...]:
    """Return the lines of the plan: the weights as mapped, as packed, caches, working memory."""
    config = source.config
    caches = sum(cache.size_bytes for cache in source.caches.layers)
    return (
        # Most of these pages are dropped again once the kernels have packed their copy.
        MemoryLine("weights file", "mapped", data_bytes),
        MemoryLine("packed weights", "anonymous", _packed_bytes(source)),
        MemoryLine("key/value caches", "anonymous", caches),
        MemoryLine("logits", "anonymous", _FLOAT_BYTES * config.vocab_size),
        MemoryLine("activations", "anonymous", _activation_bytes(source)),
    )


def _packed_bytes(source: LoweringInput) -> int:
    """Codes with a float scale and a float block sum each, the x86 layout; floats as they are."""
    total = 0
    head = source.weights.head_name()
    for name in source.weights.names():
        # A table that is only gathered from stays in the file.
        if name == "embed_tokens" and head != name:
            continue
        if source.weights.schemes[name] is None:
            shape = source.weights.floating(name).shape
            total += _FLOAT_BYTES * shape[0] * shape[1] if len(shape) == 2 else 0
            continue
        blocked = BlockedWeight(source.weights.quantized(name))
        row = blocked.row_bytes + 2 * _FLOAT_BYTES * blocked.blocks
        total += blocked.weight.out_features * row
    return total


def _activation_bytes(source: LoweringInput) -> int:
    """The widest moment of a layer with a full chunk: MLP, or attention with its projections."""
    config, chunk = source.config, source.caches.chunk
    residual = 2 * config.hidden_size
    mlp = residual + 3 * config.intermediate_size
    attention = residual + 2 * config.query_size + 2 * config.key_value_size
    slots = max(cache.capacity for cache in source.caches.layers)
    scores = config.num_attention_heads * slots
    return _FLOAT_BYTES * chunk * max(mlp, attention + scores)
