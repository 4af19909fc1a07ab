"""Gemma 2: alternating local and global layers, capped scores and logits, no query/key norms.

Defaults: class Gemma2Config of transformers 5.23.
"""

from collections.abc import Mapping
from typing import Any

from pocketlm.models.config import LayerConfig, ModelConfig
from pocketlm.models.family import Family, published_tensor_names
from pocketlm.models.published_config import GLOBAL, LOCAL, PublishedConfig


def read_config(published: Mapping[str, Any]) -> ModelConfig:
    """Read config.json."""
    config = PublishedConfig("gemma2", published)
    config.require("hidden_activation", "gelu_pytorch_tanh", "another activation")
    config.require("attention_bias", False, "attention projections with a bias")
    config.require("use_bidirectional_attention", False, "an encoder, not a language model")
    hidden_size = config.get_int("hidden_size", 2304)
    return ModelConfig(
        model_type="gemma2",
        vocab_size=config.get_int("vocab_size", 256_000),
        hidden_size=hidden_size,
        layers=_layers(config),
        rms_norm_eps=config.get_float("rms_norm_eps", 1e-6),
        max_position_embeddings=config.get_int("max_position_embeddings", 8192),
        attention_scale=config.get_float("query_pre_attn_scalar", 256) ** -0.5,
        activation="gelu_tanh",
        norm_weight_offset=1.0,
        sandwich_norms=True,
        embedding_scale=hidden_size**0.5,
        attention_softcap=config.get_optional_float("attn_logit_softcapping", 50.0),
        logits_softcap=config.get_optional_float("final_logit_softcapping", 30.0),
        tie_word_embeddings=config.get_bool("tie_word_embeddings", True),
    )


def _layers(config: PublishedConfig) -> tuple[LayerConfig, ...]:
    layer_types = config.layer_types(
        [GLOBAL if index % 2 else LOCAL for index in range(config.layer_count(26))]
    )
    window = config.window(layer_types, 4096)
    theta, factor = config.flat_rope()
    return tuple(
        LayerConfig(
            num_attention_heads=config.get_int("num_attention_heads", 8),
            num_key_value_heads=config.get_int("num_key_value_heads", 4),
            head_dim=config.get_int("head_dim", 256),
            intermediate_size=config.get_int("intermediate_size", 9216),
            window=window if layer_type == LOCAL else None,
            rope_theta=theta,
            rope_factor=factor,
        )
        for layer_type in layer_types
    )


FAMILY = Family(
    model_type="gemma2",
    read_config=read_config,
    tensor_names=published_tensor_names(sandwich_norms=True, query_key_norm=False),
)
