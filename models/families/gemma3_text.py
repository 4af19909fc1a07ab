"""Gemma 3 without vision: gemma-3-270m, gemma-3-1b, and the text part of the larger ones.

Defaults: class Gemma3TextConfig of transformers 5.23.
"""

from collections.abc import Mapping
from typing import Any

from pocketlm.models.config import LayerConfig, ModelConfig
from pocketlm.models.errors import shown
from pocketlm.models.family import Family, published_tensor_names
from pocketlm.models.published_config import GLOBAL, LOCAL, PublishedConfig


def read_config(published: Mapping[str, Any]) -> ModelConfig:
    """Read config.json, or the "text_config" of a larger Gemma 3."""
    config = PublishedConfig("gemma3_text", published)
    config.require("hidden_activation", "gelu_pytorch_tanh", "another activation")
    config.require("attention_bias", False, "attention projections with a bias")
    config.require("use_bidirectional_attention", False, "an encoder, not a language model")
    # transformers reads this key and then does not apply it, so no checkpoint can mean it.
    config.require("attn_logit_softcapping", None, "Gemma 3 has no cap on attention scores")
    hidden_size = config.get_int("hidden_size", 2304)
    return ModelConfig(
        model_type="gemma3_text",
        vocab_size=config.get_int("vocab_size", 262_208),
        hidden_size=hidden_size,
        layers=_layers(config),
        rms_norm_eps=config.get_float("rms_norm_eps", 1e-6),
        max_position_embeddings=config.get_int("max_position_embeddings", 131_072),
        attention_scale=config.get_float("query_pre_attn_scalar", 256) ** -0.5,
        activation="gelu_tanh",
        norm_weight_offset=1.0,
        sandwich_norms=True,
        query_key_norm=True,
        embedding_scale=hidden_size**0.5,
        logits_softcap=config.get_optional_float("final_logit_softcapping", None),
        tie_word_embeddings=config.get_bool("tie_word_embeddings", True),
    )


def _layers(config: PublishedConfig) -> tuple[LayerConfig, ...]:
    pattern = config.get_int("sliding_window_pattern", config.get_int("_sliding_window_pattern", 6))
    if pattern < 1:
        raise config.error("sliding_window_pattern", "must be at least 1")
    layer_types = config.layer_types(
        [LOCAL if (index + 1) % pattern else GLOBAL for index in range(config.layer_count(26))]
    )
    ropes = _ropes(config)
    window = config.window(layer_types, 4096)
    return tuple(
        LayerConfig(
            num_attention_heads=config.get_int("num_attention_heads", 8),
            num_key_value_heads=config.get_int("num_key_value_heads", 4),
            head_dim=config.get_int("head_dim", 256),
            intermediate_size=config.get_int("intermediate_size", 9216),
            window=window if layer_type == LOCAL else None,
            rope_theta=ropes[layer_type][0],
            rope_factor=ropes[layer_type][1],
        )
        for layer_type in layer_types
    )


def _ropes(config: PublishedConfig) -> dict[str, tuple[float, float]]:
    nested = config.mapping("rope_parameters")
    if stray := [key for key in nested if key not in (LOCAL, GLOBAL)]:
        raise config.error(
            "rope_parameters", f"{shown(stray[0])} must stand below {LOCAL!r} or {GLOBAL!r}"
        )
    both = PublishedConfig("gemma3_text: rope_parameters", nested)
    # The older rope_scaling is meant for global layers alone.
    full = {**both.mapping(GLOBAL), **config.mapping("rope_scaling")}
    return {
        GLOBAL: config.rope(f"RoPE of {GLOBAL}", full, config.get_float("rope_theta", 1_000_000.0)),
        LOCAL: config.rope(
            f"RoPE of {LOCAL}",
            both.mapping(LOCAL),
            config.get_float("rope_local_base_freq", 10_000.0),
        ),
    }


FAMILY = Family(
    model_type="gemma3_text",
    read_config=read_config,
    tensor_names=published_tensor_names(sandwich_norms=True, query_key_norm=True),
)
