"""Gemma 2."""

from typing import Any

from pocketlm.models.gguf.architectures import Architecture, attention_scalar, sliding_pattern
from pocketlm.models.gguf.metadata import Metadata

_LAYERS_OF_27B = 46


def _read_config(metadata: Metadata) -> dict[str, Any]:
    own = metadata.own
    pattern = sliding_pattern(metadata)
    # The family has no key for a period; its own is two.
    pattern.pop("sliding_window_pattern", None)
    return {
        "query_pre_attn_scalar": attention_scalar(metadata, _LAYERS_OF_27B),
        "sliding_window": metadata.get_int(own("attention.sliding_window"), 4096),
        "attn_logit_softcapping": metadata.get_float(own("attn_logit_softcapping"), 50.0),
        "final_logit_softcapping": metadata.get_float(own("final_logit_softcapping"), 30.0),
        **pattern,
    }


ARCHITECTURE = Architecture("gemma2", _read_config, norms_hold_offset=True)
