"""What a bundle's options and shapes decide for ONNX Runtime, before anything is traced."""

from collections.abc import Mapping, Sequence

from pocketlm.edge_build.backends.onnx.kinds import LOCAL_KINDS
from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.manifest import (
    ActivationQuantization,
    AttentionQuantization,
    CacheEntry,
)
from pocketlm.runtime_py.memory_model import RunChoices

LOCAL_CACHE = "local-cache"
ATTENTION = "attention"
# What MatMulNBits rounds of its inputs at accuracy level 4.
ACTIVATIONS: ActivationQuantization = "per_block_symmetric"

# No large constant may be folded at load: it would be a heap copy of weights that are mapped.
SESSION_OPTIONS = {"optimization.constant_folding_max_output_size_in_bytes": "1048576"}
# Scores of a chunk that may exist at once. On the CPU the kernel that keeps them is faster than the
# one that goes over keys block by block, up to twice, until they leave the caches.
_UNFUSED_SCORES_BYTES = 32 << 20


def plan_artifact(config: ModelConfig, plan: CachePlan, options: Mapping[str, str]) -> RunChoices:
    """Return how the artifact will be run."""
    local_cache = options.get(LOCAL_CACHE, LOCAL_KINDS[0])
    layers = plan.with_local(local_cache).layers
    return RunChoices(
        caches=layers,
        options={
            LOCAL_CACHE: local_cache,
            **_attention(config, plan.chunk, layers),
            **SESSION_OPTIONS,
        },
        logits_size=config.vocab_size,
        logits_rows=plan.logits_rows,
    )


def rounded_attention(config: ModelConfig, plan: CachePlan) -> AttentionQuantization:
    """Return what attention rounds of keys and values."""
    coded = any(cache.quantization == "per_channel" for cache in plan.layers)
    return "kv_per_channel" if coded else "none"


def _attention(config: ModelConfig, chunk: int, caches: Sequence[CacheEntry]) -> dict[str, str]:
    """Choose the runtime's kernel; its own choice is the one that keeps no scores."""
    slots = max(cache.capacity for cache in caches)
    heads = max(layer.num_attention_heads for layer in config.layers)
    scores_bytes = 4 * heads * chunk * slots
    return {ATTENTION: "unfused"} if scores_bytes <= _UNFUSED_SCORES_BYTES else {}
