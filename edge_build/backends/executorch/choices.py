"""What a build for ExecuTorch can choose, and what its manifest says of it."""

from collections.abc import Mapping

from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.manifest import ActivationQuantization
from pocketlm.runtime_py.memory_model import RunChoices

# Whether a layer of each kind is lowered and repeated, or every layer is lowered.
UNROLL = "unroll"
DELEGATE = {"delegate": "xnnpack"}
# What XNNPACK's products by quantized weights round of their inputs.
ACTIVATIONS: ActivationQuantization = "per_token_asymmetric"


def plan_artifact(config: ModelConfig, plan: CachePlan, options: Mapping[str, str]) -> RunChoices:
    """Return what an artifact will be: local layers have true rings, however it was lowered."""
    return RunChoices(plan.layers, DELEGATE, config.vocab_size)
