"""Qwen3, the dense sizes: global layers, plain norm weights, norms on queries and keys.

Defaults: class Qwen3Config of transformers 5.23.
"""

from collections.abc import Mapping
from typing import Any

from pocketlm.models.config import LayerConfig, ModelConfig
from pocketlm.models.family import Family, published_tensor_names
from pocketlm.models.published_config import GLOBAL, LOCAL, PublishedConfig


def read_config(published: Mapping[str, Any]) -> ModelConfig:
    """Read config.json."""
    config = PublishedConfig("qwen3", published)
    config.require("hidden_act", "silu", "another activation")
    config.require("attention_bias", False, "attention projections with a bias")
    return ModelConfig(
        model_type="qwen3",
        vocab_size=config.get_int("vocab_size", 151_936),
        hidden_size=config.get_int("hidden_size", 4096),
        attention_scale=config.get_float("head_dim", 128) ** -0.5,
        layers=_layers(config),
        rms_norm_eps=config.get_float("rms_norm_eps", 1e-6),
        max_position_embeddings=config.get_int("max_position_embeddings", 32_768),
        activation="silu",
        query_key_norm=True,
        tie_word_embeddings=config.get_bool("tie_word_embeddings", False),
    )


def _key_value_heads(config: PublishedConfig, heads: int) -> int:
    # Written as null it means one per query head; left out it means the class's 32.
    said_null = "num_key_value_heads" in config.values
    return config.get_int("num_key_value_heads", heads if said_null else 32)


def _layers(config: PublishedConfig) -> tuple[LayerConfig, ...]:
    windowed = config.get_bool("use_sliding_window", False)
    first_local = config.get_int("max_window_layers", 28)
    layer_types = config.layer_types(
        [
            LOCAL if windowed and index >= first_local else GLOBAL
            for index in range(config.layer_count(32))
        ]
    )
    if LOCAL in layer_types and not windowed:
        raise config.error(
            "layer_types", f"{LOCAL} layers, but use_sliding_window is false; the two must agree"
        )
    window = config.window(layer_types, 4096)
    theta, factor = config.flat_rope()
    heads = config.get_int("num_attention_heads", 32)
    return tuple(
        LayerConfig(
            num_attention_heads=heads,
            num_key_value_heads=_key_value_heads(config, heads),
            head_dim=config.get_int("head_dim", 128),
            intermediate_size=config.get_int("intermediate_size", 22_016),
            window=window if layer_type == LOCAL else None,
            rope_theta=theta,
            rope_factor=factor,
        )
        for layer_type in layer_types
    )


FAMILY = Family(
    model_type="qwen3",
    read_config=read_config,
    tensor_names=published_tensor_names(sandwich_norms=False, query_key_norm=True),
)
