"""Gemma 3, the text part."""

from typing import Any

from pocketlm.models.gguf.architectures import Architecture, attention_scalar, sliding_pattern
from pocketlm.models.gguf.metadata import Metadata

_LAYERS_OF_27B = 62


def _read_config(metadata: Metadata) -> dict[str, Any]:
    own = metadata.own
    config: dict[str, Any] = {
        "query_pre_attn_scalar": attention_scalar(metadata, _LAYERS_OF_27B),
        "sliding_window": metadata.get_int(own("attention.sliding_window")),
        "rope_local_base_freq": metadata.get_float(own("rope.freq_base_swa"), 10_000.0),
        "rope_theta": metadata.get_float(own("rope.freq_base"), 1_000_000.0),
        **sliding_pattern(metadata),
    }
    if metadata.find(own("final_logit_softcapping")):
        config["final_logit_softcapping"] = metadata.get_float(own("final_logit_softcapping"))
    return config


ARCHITECTURE = Architecture("gemma3_text", _read_config, norms_hold_offset=True)
