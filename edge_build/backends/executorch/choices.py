"""What a build for ExecuTorch can choose, and what its manifest says of it."""

from collections.abc import Mapping

from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.manifest import ActivationQuantization, AttentionQuantization
from pocketlm.runtime_py.memory_model import RunChoices

# Whether a layer of each kind is lowered and repeated, or every layer is lowered.
UNROLL = "unroll"
DELEGATE = {"delegate": "xnnpack"}
# What XNNPACK's products by quantized weights round of their inputs.
ACTIVATIONS: ActivationQuantization = "per_token_asymmetric"


def plan_artifact(config: ModelConfig, plan: CachePlan, options: Mapping[str, str]) -> RunChoices:
    """Return what an artifact will be: local layers have true rings, however it was lowered."""
    return RunChoices(plan.layers, DELEGATE, config.vocab_size, plan.logits_rows)


def rounded_attention(config: ModelConfig, plan: CachePlan) -> AttentionQuantization:
    """Return what attention rounds of queries, keys and values."""
    if all(cache.quantization == "none" for cache in plan.layers):
        return "none"
    # Plain attention restores the caches and multiplies in float32.
    return "qkv_per_token" if config.attention_softcap is None else "kv_per_token"
