"""Names and shapes of a Decoder's weights, computed from its config."""

from collections.abc import Mapping
from math import prod

from pocketlm.models.config import ModelConfig


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight, under the Decoder's names without ".weight".

    In the order of the forward pass; a tied model has no lm_head.
    """
    hidden, vocab = config.hidden_size, config.vocab_size
    layer: dict[str, tuple[int, ...]] = {
        "attention_norm": (hidden,),
        "attention.q_proj": (config.query_size, hidden),
        "attention.k_proj": (config.key_value_size, hidden),
        "attention.v_proj": (config.key_value_size, hidden),
        "attention.o_proj": (hidden, config.query_size),
        "mlp_norm": (hidden,),
        "mlp.gate_proj": (config.intermediate_size, hidden),
        "mlp.up_proj": (config.intermediate_size, hidden),
        "mlp.down_proj": (hidden, config.intermediate_size),
    }
    if config.query_key_norm:
        layer |= {"attention.q_norm": (config.head_dim,), "attention.k_norm": (config.head_dim,)}
    if config.sandwich_norms:
        layer |= {"post_attention_norm": (hidden,), "post_mlp_norm": (hidden,)}
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (vocab, hidden)}
    for index in range(config.num_layers):
        shapes |= {f"layers.{index}.{name}": shape for name, shape in layer.items()}
    shapes["norm"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head"] = (vocab, hidden)
    return shapes


def parameter_count(config: ModelConfig) -> int:
    """Return the number of weights; a tied embedding counts once."""
    return sum(prod(shape) for shape in weight_shapes(config).values())


def published_name(tensor_names: Mapping[str, str], name: str) -> str:
    """Return the published name of our weight, e.g. "layers.3.mlp.up_proj"."""
    parts = name.split(".")
    if parts[0] != "layers":
        return tensor_names[name]
    pattern = ".".join(["layers", "{layer}", *parts[2:]])
    return tensor_names[pattern].format(layer=parts[1])
