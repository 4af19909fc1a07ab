"""A small layer, from which tests make those that they need."""

from pocketlm.models.config import LayerConfig

SMALL_LAYER = LayerConfig(
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=64,
    window=None,
    rope_theta=10_000.0,
)
