"""The network that is trained: transformers' Gemma 3 with an attention that suits a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, Gemma3ForCausalLM, Gemma3TextConfig

ATTENTION = "pico_blocks"
LOCAL, GLOBAL = "sliding_attention", "full_attention"
WINDOW = 64

# config.json, with the keys that older readers know. Every linear dimension is a multiple of 256.
CONFIG: dict[str, Any] = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 1024,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "query_pre_attn_scalar": 128,
    "sliding_window": WINDOW,
    "sliding_window_pattern": 3,
    "layer_types": [LOCAL, LOCAL, GLOBAL, LOCAL, LOCAL, GLOBAL],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "tie_word_embeddings": True,
    "use_cache": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "torch_dtype": "bfloat16",
}
GENERATION_CONFIG: dict[str, Any] = {
    "bos_token_id": 2,
    "eos_token_id": [1, 5],
    "pad_token_id": 0,
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 40,
    "top_p": 0.9,
}


def block_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    sliding_window: int | None = None,
    **unused: object,
) -> tuple[Tensor, None]:
    """Attend causally; a local layer only computes the window's block and the one before.

    Args:
        query: [B, H, T, D]; `key` and `value` are [B, K, T, D]; T is a multiple of the window.

    Returns:
        [B, T, H, D].
    """
    group = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(group, dim=1) for states in (key, value))
    if sliding_window is None:
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling
        )
        return out.transpose(1, 2), None
    batch, heads, length, size = query.shape
    blocks = length // WINDOW
    queries = query.reshape(batch, heads * blocks, WINDOW, size)
    keys, values = (_with_previous_block(states) for states in (key, value))
    # A query at row i of its block sees exactly the WINDOW keys that end at its own.
    row = torch.arange(WINDOW).unsqueeze(1)
    column = torch.arange(2 * WINDOW)
    mask = (column > row) & (column <= row + WINDOW)
    first = (torch.arange(heads * blocks) % blocks == 0)[:, None, None]
    mask = mask & ~(first & (column < WINDOW))  # [H * blocks, W, 2 W]
    # Written out: the compiler fuses it, and a fused call costs more on blocks this small.
    scores = (queries @ keys.transpose(-1, -2)).float() * scaling
    weights = torch.softmax(scores.masked_fill(~mask, -1e9), dim=-1)
    out = weights.to(values.dtype) @ values
    return out.reshape(batch, heads, length, size).transpose(1, 2), None


def _with_previous_block(states: Tensor) -> Tensor:
    """Turn [B, H, T, D] into [B, H * blocks, 2 W, D]: each block behind its predecessor."""
    batch, heads, length, size = states.shape
    blocks = states.reshape(batch, heads, length // WINDOW, WINDOW, size)
    previous = functional.pad(blocks, (0, 0, 0, 0, 1, 0))[:, :, :-1]
    return torch.cat((previous, blocks), dim=3).flatten(1, 2)


def build_network() -> Gemma3ForCausalLM:
    AttentionInterface.register(ATTENTION, block_attention)
    config = Gemma3TextConfig(**CONFIG)
    return Gemma3ForCausalLM._from_config(
        config, attn_implementation=ATTENTION, dtype=torch.float32
    )


def token_losses(network: Gemma3ForCausalLM, windows: Tensor) -> Tensor:
    """Score every next token of `windows`, [B, T + 1]: nats, [B * T]."""
    masks = {LOCAL: None, GLOBAL: None}  # The attention makes its own.
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(input_ids=windows[:, :-1], attention_mask=masks, use_cache=False).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), windows[:, 1:].flatten(), reduction="none"
    )


def save_checkpoint(network: Gemma3ForCausalLM, folder: Path) -> None:
    """Write the configuration and the bfloat16 weights; each file is replaced whole."""
    names = {"lm_head.weight"}  # Tied to the embedding.
    weights = {
        name: value.detach().to(torch.bfloat16).contiguous()
        for name, value in network.state_dict().items()
        if name not in names
    }
    target = folder / "model.safetensors"
    partial = target.with_suffix(".partial")
    save_file(weights, partial, metadata={"format": "pt"})
    partial.replace(target)
    for name, value in (("config", CONFIG), ("generation_config", GENERATION_CONFIG)):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
