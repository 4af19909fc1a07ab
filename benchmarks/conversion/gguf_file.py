"""Writes a checkpoint of Gemma 3 or Qwen3 as a bfloat16 GGUF file that llama.cpp can quantize.

Weights go from file to file tensor by tensor. The file has no vocabulary: the benchmark feeds
token ids, and llama.cpp is spared the memory of one.
Keys and tensor names: https://github.com/ggml-org/llama.cpp/tree/master/gguf-py
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from pocketlm.models.config import ModelConfig
from pocketlm.models.safetensors_files import StoredTensor, read_headers

# Published name below a layer → name in a GGUF file.
_LAYER_TENSORS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
_GEMMA_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_QWEN_NORMS = {"post_attention_layernorm": "ffn_norm"}
_OUTER_TENSORS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


@dataclass(frozen=True)
class Architecture:
    """What differs between the families that llama.cpp knows.

    Attributes:
        norm_offset: added to stored RMSNorm weights; llama.cpp adds nothing itself.
    """

    name: str
    norms: Mapping[str, str]
    norm_offset: float


ARCHITECTURES = {
    "gemma3": Architecture("gemma3", _GEMMA_NORMS, 1.0),
    "gemma3_text": Architecture("gemma3", _GEMMA_NORMS, 1.0),
    "qwen3": Architecture("qwen3", _QWEN_NORMS, 0.0),
}


def gguf_name(published: str, architecture: Architecture) -> str:
    """Return a weight's name in a GGUF file, without ".weight".

    Raises:
        SystemExit: the name is not one of the architecture's.
    """
    if published in _OUTER_TENSORS:
        return _OUTER_TENSORS[published]
    head, _, rest = published.removeprefix("model.layers.").partition(".")
    names = {**_LAYER_TENSORS, **architecture.norms}
    if not published.startswith("model.layers.") or rest not in names:
        raise SystemExit(f"{published}: no such weight in {architecture.name}")
    return f"blk.{head}.{names[rest]}"


def write(checkpoint: Path, out: Path) -> None:
    """Write the GGUF file of a checkpoint folder.

    Raises:
        SystemExit: the model type has no counterpart here.
    """
    published = json.loads((checkpoint / "config.json").read_text())
    family = published["model_type"]
    if family not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise SystemExit(f"{checkpoint}: model_type {family}; known: {known}")
    architecture = ARCHITECTURES[family]
    # Published files leave out what is the default of their class; the family knows it.
    config = import_module(f"pocketlm.models.families.{family}").read_config(published)
    tensors = _text_tensors(read_headers(checkpoint))
    writer = gguf.GGUFWriter(out, architecture.name)
    _add_config(writer, config)
    for name, tensor in tensors.items():
        _add_tensor(writer, gguf_name(name, architecture), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors.values():
        writer.write_tensor_data(_values(tensor, architecture.norm_offset))
    writer.close()


def _text_tensors(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Drop vision weights and the prefixes of checkpoints that have them, and ".weight"."""
    tensors = {}
    for name, tensor in stored.items():
        if not name.startswith(("vision_tower.", "multi_modal_projector.", "model.vision")):
            plain = name.replace("language_model.model.", "model.").replace(
                "model.language_model.", "model."
            )
            tensors[plain.removeprefix("language_model.").removesuffix(".weight")] = tensor
    return tensors


def _add_config(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    everywhere = next(layer for layer in config.layers if layer.window is None)
    windows = {layer.window for layer in config.layers if layer.window is not None}
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(everywhere.intermediate_size)
    writer.add_head_count(everywhere.num_attention_heads)
    writer.add_head_count_kv(everywhere.num_key_value_heads)
    writer.add_key_length(everywhere.head_dim)
    writer.add_value_length(everywhere.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(everywhere.rope_theta)
    for window in windows:
        writer.add_sliding_window(window)
    if everywhere.rope_factor != 1:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(everywhere.rope_factor)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: StoredTensor) -> None:
    is_vector = len(tensor.shape) == 1
    dtype: np.dtype[Any] = np.dtype(np.float32 if is_vector else np.uint16)
    kind = gguf.GGMLQuantizationType.F32 if is_vector else gguf.GGMLQuantizationType.BF16
    size_bytes = prod(tensor.shape) * dtype.itemsize
    writer.add_tensor_info(f"{name}.weight", tensor.shape, dtype, size_bytes, kind)


def _values(tensor: StoredTensor, norm_offset: float) -> NDArray[Any]:
    """Return a vector in float32 with the offset of norms added, a matrix as it is stored."""
    if tensor.dtype != "BF16":
        raise SystemExit(f"{tensor.path}: {tensor.dtype} weights; this writer takes BF16")
    if len(tensor.shape) > 1:
        return np.memmap(tensor.path, np.uint16, "r", tensor.offset, tensor.shape)
    data = np.frombuffer(tensor.read_bytes(0, tensor.size_bytes), np.uint16)
    return (data.astype(np.uint32) << 16).view(np.float32) + np.float32(norm_offset)


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    write(arguments.checkpoint, arguments.out)


if __name__ == "__main__":
    main()
