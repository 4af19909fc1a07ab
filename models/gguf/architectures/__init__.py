"""What GGUF files of one architecture say, as a config.json: one file each with ARCHITECTURE.

A file is named as `general.architecture` names it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from pocketlm.models.errors import ModelError, nearest_and_known, shown
from pocketlm.models.gguf.metadata import Metadata

NAMES = tuple(sorted(module.name for module in iter_modules(__path__)))


@dataclass(frozen=True)
class Architecture:
    """One architecture of llama.cpp.

    Attributes:
        model_type: the family that builds it.
        read_config: metadata → the keys of config.json that `common_config` does not give.
        norms_hold_offset: RMSNorm weights have the family's offset added already.
    """

    model_type: str
    read_config: Callable[[Metadata], dict[str, Any]]
    norms_hold_offset: bool = False


def load(metadata: Metadata) -> Architecture:
    """Return the architecture of a file.

    Raises:
        ModelError: it is none that can be read.
    """
    name = metadata.architecture
    if name not in NAMES:
        raise ModelError(
            f"{metadata.path}: its architecture {shown(name)} is not supported; "
            f"{nearest_and_known(name, NAMES)}"
        )
    found: Architecture = import_module(f"{__name__}.{name}").ARCHITECTURE
    return found


def common_config(metadata: Metadata, vocab_size: int, is_tied: bool) -> dict[str, Any]:
    """Return the keys of config.json that all architectures have alike.

    Raises:
        ModelError: a key is missing, or a rotation is not the plain or the linear one.
    """
    own = metadata.own
    heads = metadata.get_int(own("attention.head_count"))
    head_dim = metadata.get_int(own("embedding_length")) // max(1, heads)
    config: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": metadata.get_int(own("embedding_length")),
        "intermediate_size": metadata.get_int(own("feed_forward_length")),
        "num_hidden_layers": metadata.get_int(own("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get_int(own("attention.head_count_kv"), heads),
        "head_dim": metadata.get_int(own("attention.key_length"), head_dim),
        "max_position_embeddings": metadata.get_int(own("context_length")),
        "rms_norm_eps": metadata.get_float(own("attention.layer_norm_rms_epsilon")),
        "rope_theta": metadata.get_float(own("rope.freq_base"), 10_000.0),
        "tie_word_embeddings": is_tied,
    }
    values = metadata.get_int(own("attention.value_length"), config["head_dim"])
    if values != config["head_dim"]:
        raise metadata.error(own("attention.value_length"), values, "the same as key_length")
    scaling = metadata.find(own("rope.scaling.type"))
    if scaling not in (None, "none", "linear"):
        raise metadata.error(own("rope.scaling.type"), scaling, "'none' or 'linear'")
    if scaling == "linear":
        factor = metadata.get_float(own("rope.scaling.factor"))
        config["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    for key, name in (("bos", "bos"), ("eos", "eos"), ("padding", "pad")):
        token = metadata.find_int(f"tokenizer.ggml.{key}_token_id")
        if token is not None:
            config[f"{name}_token_id"] = token
    return config


def attention_scalar(metadata: Metadata, largest_layers: int) -> float:
    """Return Gemma's query_pre_attn_scalar.

    llama.cpp knows it by the number of layers: the 27B sizes divide by another number than their
    head size (src/models/gemma3.cpp, f_attention_scale).
    """
    own = metadata.own
    if metadata.get_int(own("block_count")) == largest_layers:
        heads = metadata.get_int(own("attention.head_count"))
        return metadata.get_int(own("embedding_length")) / heads
    return metadata.get_int(own("attention.key_length"))


def sliding_pattern(metadata: Metadata) -> dict[str, Any]:
    """Return which layers have a window, where the file says it."""
    found = metadata.find(metadata.own("attention.sliding_window_pattern"))
    if found is None:
        return {}
    if type(found) is int:
        return {"sliding_window_pattern": found}
    if isinstance(found, list) and all(type(one) is bool for one in found):
        kinds = ("full_attention", "sliding_attention")
        return {"layer_types": [kinds[is_local] for is_local in found]}
    raise metadata.error(metadata.own("attention.sliding_window_pattern"), found, "a number")
