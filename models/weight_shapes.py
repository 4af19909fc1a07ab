"""Names and shapes of a Decoder's weights, computed from its config."""

from collections.abc import Mapping
from functools import cache
from math import prod

from pocketlm.models import families
from pocketlm.models.config import LayerConfig, ModelConfig


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight, under the Decoder's names without ".weight".

    In the order of the forward pass; a tied model has no lm_head. Those of the shared layer are
    computed, so that planning needs no torch; a family's own layer is asked.
    """
    if families.own_layer(config.model_type) is not None:
        return dict(_shapes_of_decoder(config))
    hidden, vocab = config.hidden_size, config.vocab_size
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (vocab, hidden)}
    for index in range(config.num_layers):
        layer = _layer_shapes(config, config.layers[index])
        shapes |= {f"layers.{index}.{name}": shape for name, shape in layer.items()}
    shapes["norm"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head"] = (vocab, hidden)
    return shapes


@cache
def _shapes_of_decoder(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    import torch

    from pocketlm.models.decoder import Decoder

    with torch.device("meta"):
        decoder = Decoder(config)
    return {
        name.removesuffix(".weight"): tuple(weight.shape)
        for name, weight in decoder.named_parameters()
    }


def _layer_shapes(config: ModelConfig, layer: LayerConfig) -> dict[str, tuple[int, ...]]:
    hidden, intermediate = config.hidden_size, layer.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "attention_norm": (hidden,),
        "attention.q_proj": (layer.query_size, hidden),
        "attention.k_proj": (layer.key_value_size, hidden),
        "attention.v_proj": (layer.key_value_size, hidden),
        "attention.o_proj": (hidden, layer.query_size),
        "mlp_norm": (hidden,),
        "mlp.gate_proj": (intermediate, hidden),
        "mlp.up_proj": (intermediate, hidden),
        "mlp.down_proj": (hidden, intermediate),
    }
    if config.query_key_norm:
        shapes |= {"attention.q_norm": (layer.head_dim,), "attention.k_norm": (layer.head_dim,)}
    if config.sandwich_norms:
        shapes |= {"post_attention_norm": (hidden,), "post_mlp_norm": (hidden,)}
    if layer.kv_from is not None:
        for name in ("k_proj", "v_proj", "k_norm"):
            shapes.pop(f"attention.{name}", None)
    return shapes


def parameter_count(config: ModelConfig) -> int:
    """Return the number of weights; a tied embedding counts once."""
    return sum(prod(shape) for shape in weight_shapes(config).values())
