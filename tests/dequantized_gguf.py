"""A GGUF file with quantized weights → a bfloat16 checkpoint in Hugging Face format."""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.conversion.gguf_file import ARCHITECTURES, gguf_name
from pocketlm.models import families, shapes
from pocketlm.models.tensor_views import published_name
from pocketlm.models.weight_shapes import weight_shapes


def write_checkpoint(source: Path, shape_name: str, folder: Path) -> None:
    """Write config.json and model.safetensors of a published shape with a file's weights."""
    shape = shapes.load(shape_name)
    architecture = ARCHITECTURES[shape.model_type]
    names = families.load(shape.model_type).tensor_names
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    tensors = {}
    for name, size in weight_shapes(shape.config).items():
        published = published_name(names, name)
        plain = published.removesuffix(".weight")
        tensor = stored.pop(f"{gguf_name(plain, architecture)}.weight")
        values = np.array(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)
        if len(size) == 1:
            values -= architecture.norm_offset
        assert values.shape == size, f"{published}: {values.shape}, expected {size}"
        tensors[published] = torch.from_numpy(values).to(torch.bfloat16)
    assert not stored, f"{source} has other tensors too: {sorted(stored)}"
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(shape.published, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
