"""What a family file must offer: how to read its config and what its tensors are called.

Also the names that Hugging Face gives a decoder's tensors, which most families share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pocketlm.models.config import ModelConfig
from pocketlm.models.tensor_views import PublishedNames

# Config and index → the module of one layer.
MakeLayer = Callable[[ModelConfig, int], Any]


@dataclass(frozen=True)
class Family:
    """One `model_type`.

    Attributes:
        read_config: published config.json as a mapping → ModelConfig.
        tensor_names: our weight name → theirs, both with "{layer}" where the layer number stands;
            ours without ".weight", theirs complete; a TensorView where theirs is not the weight
            alone.
        other_tensor_names: further spellings of the same names, for files that other versions of
            the publisher's tools wrote; the one whose embed_tokens the checkpoint has is used.
        ignored_tensors: patterns of tensors that may be present and are left out on purpose.
        notes: what a build prints for the user ("vision tower left out").
        layer: makes one layer, where `DecoderLayer` computes something else. It imports its class
            when it is called: torch is not needed to read a config.
    """

    model_type: str
    read_config: Callable[[Mapping[str, Any]], ModelConfig]
    tensor_names: PublishedNames
    other_tensor_names: tuple[PublishedNames, ...] = ()
    ignored_tensors: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    layer: MakeLayer | None = None


_LAYER_NAMES = {
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.o_proj": "self_attn.o_proj",
    "mlp.gate_proj": "mlp.gate_proj",
    "mlp.up_proj": "mlp.up_proj",
    "mlp.down_proj": "mlp.down_proj",
    "attention_norm": "input_layernorm",
}
# The same published name stands for two places: after the attention, or before the MLP.
_PRE_NORMS = {"mlp_norm": "post_attention_layernorm"}
_SANDWICH_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "post_mlp_norm": "post_feedforward_layernorm",
}
_QUERY_KEY_NORMS = {"attention.q_norm": "self_attn.q_norm", "attention.k_norm": "self_attn.k_norm"}


def published_tensor_names(
    *,
    sandwich_norms: bool,
    query_key_norm: bool,
    prefix: str = "model.",
    head: str = "lm_head.weight",
) -> dict[str, str]:
    """Return the names that Hugging Face's decoders give their tensors, for `tensor_names`."""
    layer = _LAYER_NAMES | (_SANDWICH_NORMS if sandwich_norms else _PRE_NORMS)
    if query_key_norm:
        layer |= _QUERY_KEY_NORMS
    return {
        "embed_tokens": f"{prefix}embed_tokens.weight",
        **{
            f"layers.{{layer}}.{ours}": f"{prefix}layers.{{layer}}.{theirs}.weight"
            for ours, theirs in layer.items()
        },
        "norm": f"{prefix}norm.weight",
        "lm_head": head,
    }
