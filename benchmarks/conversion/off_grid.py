"""Moves a checkpoint off the grid that its weights lie on, so that no format is favoured."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_BLOCK = 32
_SEED = 0


def write_off_grid(source: Path, out: Path) -> Path:
    """Write a copy whose matrices have uniform noise of half a step of each block of 32.

    A step is the block's largest magnitude over 8, as a block of Q4_0 has it. The copy is bfloat16.
    """
    if (out / "config.json").exists():
        return out
    writing = out.with_name(f".{out.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    shutil.copytree(source, writing)
    generator = torch.Generator().manual_seed(_SEED)
    for path in sorted(writing.glob("*.safetensors")):
        tensors = {}
        for name, weight in load_file(path).items():
            tensors[name] = _moved(weight, generator) if weight.dim() == 2 else weight
        save_file(tensors, path, {"format": "pt"})
    assert json.loads((writing / "config.json").read_text()), "a checkpoint"
    writing.rename(out)
    return out


def _moved(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    blocks = weight.float().reshape(weight.shape[0], -1, _BLOCK)
    steps = blocks.abs().amax(-1, keepdim=True) / 8
    noise = torch.rand(blocks.shape, generator=generator) - 0.5
    return (blocks + noise * steps).reshape(weight.shape).to(torch.bfloat16)
