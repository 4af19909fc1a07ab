"""Tiny checkpoints on known grids, in each format that is read: the codes are drawn, then written.

Embeddings and norms stay as they were; every linear layer of a layer is on the grid.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from pocketlm.models.stored_grid import GridRows

# Half of the groups have scales of this sign where a format has both.
_SCALE = 0.02
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Codes:
    """A weight's codes as a quantizer chose them: weight = (codes - zeros) * scales.

    Attributes:
        codes: [out, in], unsigned.
        zeros: [out, groups], unsigned.
        scales: [out, groups] float32.
    """

    codes: NDArray[np.int16]
    zeros: NDArray[np.int16]
    scales: NDArray[np.float32]

    @property
    def rows(self) -> GridRows:
        repeated = np.repeat(self.zeros, self.codes.shape[1] // self.zeros.shape[1], axis=1)
        return GridRows((self.codes - repeated).astype(np.int16), self.scales)


@dataclass(frozen=True)
class CodedCheckpoint:
    """What was written: a folder or file, and the codes by published names without ".weight"."""

    path: Path
    weights: Mapping[str, Codes]


def draw(shape: tuple[int, ...], group: int | None, seed: int, **kind: Any) -> Codes:
    """Draw a weight's codes.

    Args:
        kind: bits (4), symmetric (True: zero points in the middle), scale ("float16" or
            "bfloat16"), signed (False: scales of both signs), extremum (None: or the code, counted
            from zero, that every group has).
    """
    random = np.random.default_rng(seed)
    bits, symmetric = kind.get("bits", 4), kind.get("symmetric", True)
    (rows, columns), group = shape, group or shape[1]
    top = 1 << bits
    sizes = (rows, columns // group)
    codes = random.integers(0, top, (rows, columns)).astype(np.int16)
    zeros = np.full(sizes, top // 2, np.int16)
    if not symmetric:
        zeros = random.integers(1, top, sizes).astype(np.int16)
    extremum = kind.get("extremum")
    if extremum is not None:
        codes = np.clip(codes, top // 2 - abs(extremum) + 1, top // 2 + abs(extremum) - 1)
        codes.reshape(*sizes, group)[..., 0] = top // 2 + extremum
    scales = (_SCALE * (0.5 + random.random(sizes))).astype(np.float32)
    dtype = torch.bfloat16 if kind.get("scale") == "bfloat16" else torch.float16
    scales = torch.from_numpy(scales).to(dtype).float().numpy()
    if kind.get("signed"):
        scales = scales * random.choice([-1, 1], sizes).astype(np.float32)
    return Codes(codes, zeros, scales)


def _start(source: Path, folder: Path) -> tuple[Tensors, dict[str, tuple[int, ...]]]:
    """Copy a checkpoint; return its tensors, and the shapes of its linear layers by name."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    linear = {
        name.removesuffix(".weight"): tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name.endswith("proj.weight")
    }
    return tensors, linear


def _finish(folder: Path, tensors: Tensors, settings: Mapping[str, Any] | None) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if settings is not None:
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = settings
        (folder / "config.json").write_text(json.dumps(config))


def _words(codes: NDArray[Any], bits: int) -> torch.Tensor:
    """Pack along the last axis, the lowest bits first."""
    grouped = codes.astype(np.uint32).reshape(*codes.shape[:-1], -1, 32 // bits)
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    packed = np.bitwise_or.reduce(grouped << shifts, axis=-1)
    return torch.from_numpy(packed.astype(np.uint32).view(np.int32).copy())


def float_checkpoint(
    source: Path, folder: Path, dtype: torch.dtype, group: int | None, **kind: Any
) -> CodedCheckpoint:
    """Write weights as quantization-aware training publishes them: codes times scales, rounded."""
    tensors, linear = _start(source, folder)
    drawn = {name: draw(shape, group, i, **kind) for i, (name, shape) in enumerate(linear.items())}
    for name, codes in drawn.items():
        tensors[f"{name}.weight"] = torch.from_numpy(codes.rows.dequantized()).to(dtype)
    _finish(folder, tensors, None)
    return CodedCheckpoint(folder, drawn)


def gptq_checkpoint(
    source: Path, folder: Path, group: int | None, version: int = 1, **kind: Any
) -> CodedCheckpoint:
    """Write AutoGPTQ's layout; with `reversed` the last columns are of the first group."""
    tensors, linear = _start(source, folder)
    bits, drawn = kind.get("bits", 4), {}
    for index, (name, shape) in enumerate(linear.items()):
        codes = drawn[name] = draw(shape, group, index, **kind)
        del tensors[f"{name}.weight"]
        zeros = (codes.zeros - (version == 1)) & ((1 << bits) - 1)
        plain = torch.arange(shape[1], dtype=torch.int32) // (group or shape[1])
        tensors |= {
            f"{name}.qweight": _words(codes.codes, bits).T.contiguous(),
            f"{name}.qzeros": _words(np.ascontiguousarray(zeros.T), bits),
            f"{name}.scales": torch.from_numpy(codes.scales).T.to(torch.float16).contiguous(),
            f"{name}.g_idx": plain.flip(0).contiguous() if kind.get("reversed") else plain,
        }
    settings = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group or -1,
        "sym": kind.get("symmetric", True),
        "desc_act": bool(kind.get("reversed")),
        "checkpoint_format": "gptq" if version == 1 else "gptq_v2",
    }
    _finish(folder, tensors, settings)
    return CodedCheckpoint(folder, drawn)


def awq_checkpoint(source: Path, folder: Path, group: int | None, **kind: Any) -> CodedCheckpoint:
    """Write AutoAWQ's gemm layout."""
    tensors, linear = _start(source, folder)
    drawn = {}
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # of channels, from a word's lowest bits

    def pack(codes: NDArray[np.int16]) -> torch.Tensor:
        scattered = codes.reshape(codes.shape[0], -1, 8)[..., order]
        return _words(scattered.reshape(codes.shape), 4)

    for index, (name, shape) in enumerate(linear.items()):
        codes = drawn[name] = draw(shape, group, index, **{"symmetric": False, **kind})
        del tensors[f"{name}.weight"]
        tensors |= {
            f"{name}.qweight": pack(np.ascontiguousarray(codes.codes.T)),
            f"{name}.qzeros": pack(np.ascontiguousarray(codes.zeros.T)),
            f"{name}.scales": torch.from_numpy(codes.scales).T.to(torch.float16).contiguous(),
        }
    settings = {
        "quant_method": "awq", "bits": 4, "group_size": group or -1,
        "zero_point": True, "version": "gemm",
    }  # fmt: skip
    _finish(folder, tensors, settings)
    return CodedCheckpoint(folder, drawn)


def compressed_checkpoint(
    source: Path, folder: Path, group: int | None, **kind: Any
) -> CodedCheckpoint:
    """Write compressed-tensors' pack-quantized form with its own packer."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    tensors, linear = _start(source, folder)
    bits, drawn = kind.get("bits", 4), {}
    symmetric = kind.get("symmetric", True)
    middle = 1 << (bits - 1)
    for index, (name, shape) in enumerate(linear.items()):
        codes = drawn[name] = draw(shape, group, index, **{"scale": "bfloat16", **kind})
        del tensors[f"{name}.weight"]
        signed, zeros = (
            torch.from_numpy((one - middle).astype(np.int8)) for one in (codes.codes, codes.zeros)
        )
        tensors |= {
            f"{name}.weight_packed": pack_to_int32(signed, bits),
            f"{name}.weight_scale": torch.from_numpy(codes.scales).to(torch.bfloat16),
            f"{name}.weight_shape": torch.tensor(shape, dtype=torch.int64),
        }
        if not symmetric:
            tensors[f"{name}.weight_zero_point"] = pack_to_int32(zeros, bits, packed_dim=0)
    weights = {
        "num_bits": bits, "type": "int", "symmetric": symmetric,
        "strategy": "group" if group else "channel", "group_size": group,
    }  # fmt: skip
    settings = {
        "quant_method": "compressed-tensors", "format": "pack-quantized",
        "quantization_status": "compressed", "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }  # fmt: skip
    _finish(folder, tensors, settings)
    return CodedCheckpoint(folder, drawn)


def gguf_blocks(codes: Codes, kind: str) -> NDArray[np.uint8]:
    """Return a weight's rows of blocks of Q4_0 or Q8_0."""
    rows, groups = codes.scales.shape
    scales = codes.scales.astype("<f2").view(np.uint8).reshape(rows, groups, 2)
    grouped = codes.codes.reshape(rows, groups, 32)
    if kind == "Q8_0":
        packed = (grouped - 128).astype(np.int8).view(np.uint8)
    else:
        packed = (grouped[..., :16] | (grouped[..., 16:] << 4)).astype(np.uint8)
    return np.concatenate([scales, packed], axis=-1).reshape(rows, -1)


def gguf_checkpoint(source: Path, path: Path, kind: str, **changes: Any) -> CodedCheckpoint:
    """Write a GGUF file of a tiny checkpoint, its linear layers in one type.

    Args:
        kind: "Q4_0", "Q8_0", or another type that the package gguf can quantize to.
        changes: architecture, drop (tensor names left out), metadata (key → value, text or whole).
    """
    config = json.loads((source / "config.json").read_text())
    family = config["model_type"]
    name = changes.get("architecture", {"gemma3_text": "gemma3"}.get(family, family))
    offset = 0.0 if family == "qwen3" else 1.0
    writer = gguf.GGUFWriter(path, name)
    _add_metadata(writer, config)
    for key, value in changes.get("metadata", {}).items():
        writer.add_uint32(key, value) if type(value) is int else writer.add_string(key, value)
    kinds = {text: kind for kind, text in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(
        kinds[{"gemma3_text": "gemma3"}.get(family, family)], config["num_hidden_layers"]
    )
    drawn = {}
    for index, (published, tensor) in enumerate(load_file(source / "model.safetensors").items()):
        theirs = names.get_name(published, try_suffixes=(".weight",))
        if theirs in changes.get("drop", ()):
            continue
        values = tensor.float().numpy()
        if values.ndim == 1:
            writer.add_tensor(theirs, values + np.float32(offset))
        elif published.endswith("proj.weight"):
            bits = 4 if kind == "Q4_0" else 8
            plain = published.removesuffix(".weight")
            if kind in ("Q4_0", "Q8_0"):
                signed = {"signed": kind == "Q4_0", "extremum": -8 if bits == 4 else 127}
                drawn[plain] = draw(values.shape, 32, index, bits=bits, **signed)
                data = gguf_blocks(drawn[plain], kind)
            else:
                data = gguf.quantize(values, gguf.GGMLQuantizationType[kind])
            raw = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(theirs, data, raw_dtype=raw)
        else:
            half = tensor.to(torch.bfloat16).view(torch.uint16).numpy()
            writer.add_tensor(theirs, half.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return CodedCheckpoint(path, drawn)


def _add_metadata(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta", 10_000.0))
    if "sliding_window" in config:
        writer.add_sliding_window(config["sliding_window"])
    if "layer_types" in config:
        pattern = [kind == "sliding_attention" for kind in config["layer_types"]]
        writer.add_sliding_window_pattern(pattern)
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if key in config:
            getattr(writer, f"add_{key}")(config[key])
