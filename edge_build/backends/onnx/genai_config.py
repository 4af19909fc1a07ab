"""genai_config.json: what the stock onnxruntime-genai needs to run a bundle.

It stands at the top of the bundle, because that runner opens the folder that holds it.
"""

import json
from typing import Any

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.onnx.kinds import operators_of
from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.manifest import CacheEntry
from pocketlm.runtime_py.sampling import SamplingOptions

GENAI_CONFIG_NAME = "genai_config.json"


def runs_in_genai(config: ModelConfig, plan: CachePlan) -> bool:
    """Say whether the stock runner sizes these caches as the graph needs them.

    It supports one window, one number of heads, one head size and one type of caches. It gives each
    layer a cache and cuts only a first prompt into chunks, so it would write past the slack of a
    true ring.
    """
    if len({cache.dtype for cache in plan.layers}) > 1:
        return False
    heads = {(layer.num_key_value_heads, layer.head_dim) for layer in config.layers}
    if len(heads) > 1 or config.shares_caches:
        return False
    windows = {cache.window for cache in plan.layers if operators_of(cache).slides}
    return all(operators_of(cache).in_kernel for cache in plan.layers) and len(windows) <= 1


def genai_config(source: LoweringInput, model: str, session_options: dict[str, str]) -> str:
    """Return the text of genai_config.json.

    Args:
        source: with its caches as this build keeps them.
        model: path of model.onnx relative to the bundle.
        session_options: ONNX Runtime session configuration entries.
    """
    plan = source.caches
    document = {
        "model": {
            "type": source.config.model_type,
            "vocab_size": source.config.vocab_size,
            "context_length": plan.context_length,
            **_token_ids(source),
            # The published tokenizer files stay beside this file; the runner reads its own.
            "tokenizer_dir": "onnx",
            "decoder": _decoder(source.config, plan, model, session_options),
        },
        "search": {
            **_sampling(source.sampling),
            "max_length": plan.context_length,
            "num_beams": 1,
            # The caches are one buffer, written in place.
            "past_present_share_buffer": True,
            # A first prompt is cut to this.
            "chunk_size": plan.chunk,
        },
    }
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _sampling(options: SamplingOptions) -> dict[str, bool | int | float]:
    """Return the published defaults under the runner's names; it has none for min_p."""
    found: dict[str, bool | int | float] = {
        "do_sample": options.temperature > 0,
        "repetition_penalty": options.repetition_penalty,
    }
    if options.temperature > 0:
        found["temperature"] = options.temperature
        found["top_p"] = options.top_p
        found["top_k"] = options.top_k
    return found


def _decoder(
    config: ModelConfig, plan: CachePlan, model: str, session_options: dict[str, str]
) -> dict[str, Any]:
    layer = config.layers[0]  # `runs_in_genai`: its heads are those of all
    decoder: dict[str, Any] = {
        "filename": model,
        "head_size": layer.head_dim,
        "hidden_size": config.hidden_size,
        "num_attention_heads": layer.num_attention_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": layer.num_key_value_heads,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "session_options": {
            "log_id": "onnxruntime-genai",
            "provider_options": [],
            **session_options,
        },
    }
    local = [layer for layer, cache in enumerate(plan.layers) if operators_of(cache).slides]
    if local:
        decoder["sliding_window"] = _sliding_window(plan.layers[local[0]], local)
    return decoder


def _token_ids(source: LoweringInput) -> dict[str, int | list[int]]:
    ids: dict[str, int | list[int]] = {"eos_token_id": list(source.stop_ids)}
    if source.bos_id is not None:
        ids["bos_token_id"] = source.bos_id
    # The runner wants a padding id though a batch of one is never padded.
    ids["pad_token_id"] = source.pad_id if source.pad_id is not None else source.stop_ids[0]
    return ids


def _sliding_window(cache: CacheEntry, layers: list[int]) -> dict[str, Any]:
    return {
        "window_size": cache.window,
        "layers": layers,
        # Without it the runner keeps 16 rows more than the window, however small the chunk.
        "cache_slack": cache.capacity - (cache.window or 0),
        "slide_key_value_cache": False,
        "slide_inputs": False,
    }
