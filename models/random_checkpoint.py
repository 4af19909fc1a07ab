"""A checkpoint of a published shape with random weights: for memory and speed, not for sense.

Weights are drawn block by block and written at once, so memory stays at a few blocks.
"""

import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pocketlm.models import families
from pocketlm.models.errors import ModelError
from pocketlm.models.new_folder import new_folder
from pocketlm.models.random_tokenizer import write_tokenizer
from pocketlm.models.safetensors_files import INDEX_NAME, SINGLE_NAME
from pocketlm.models.shapes import Shape, with_layers
from pocketlm.models.tensor_views import lay_out
from pocketlm.models.weight_shapes import weight_shapes

_SHARD_BYTES = 2_000_000_000
_BLOCK_VALUES = 1 << 20
_BF16_BYTES = 2

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class RandomTensor:
    """One tensor to draw: mean + deviation * Gaussian noise, in bf16."""

    name: str
    shape: tuple[int, ...]
    mean: float
    deviation: float

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * _BF16_BYTES


def write_random_checkpoint(
    shape: Shape,
    out: Path,
    seed: int = 0,
    layers: int | None = None,
    advance: Advance = lambda done, total: None,
    shard_bytes: int = _SHARD_BYTES,
) -> int:
    """Write a checkpoint with a tokenizer to a new folder.

    A tensor depends on the seed and on its name alone, so a model cut to its first layers has the
    weights of the whole one. The noise is numpy's: another numpy may draw other numbers.

    Args:
        layers: keep only the first ones.
        advance: called with bytes written and bytes in all.
        shard_bytes: no file holds more, unless a single tensor does.

    Returns:
        Bytes of the weights.

    Raises:
        ModelError: `out` exists, or the disk is too small; nothing is left behind.
    """
    if seed < 0:
        raise ModelError(f"seed={seed}: must be zero or above")
    if layers is not None:
        shape = with_layers(shape, layers)
    shards = _shards(_tensors(shape), shard_bytes)
    total = sum(tensor.size_bytes for shard in shards for tensor in shard)
    with new_folder(out) as folder:
        _require_space(out, folder, total)
        _write_config(folder, shape)
        write_tokenizer(folder, shape.model_type, shape.config)
        _write_shards(folder, shards, seed, lambda done: advance(done, total))
    return total


def _tensors(shape: Shape) -> Iterator[RandomTensor]:
    shapes = weight_shapes(shape.config)
    layout = lay_out(families.load(shape.model_type).tensor_names, shapes)
    for published, size in layout.shapes.items():
        weight = shapes[layout.holds[published]]
        if len(weight) == 1:
            mean = 1.0 - shape.config.norm_weight_offset
            yield RandomTensor(published, size, mean, 0.1)
        else:
            # Keeps activations and logits near variance one, as trained weights do.
            yield RandomTensor(published, size, 0.0, weight[1] ** -0.5)


def _shards(tensors: Iterator[RandomTensor], shard_bytes: int) -> list[list[RandomTensor]]:
    shards: list[list[RandomTensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.size_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.size_bytes
    return shards


def _require_space(out: Path, folder: Path, total: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < total:
        raise ModelError(
            f"{out}: {total / 1e9:.1f} GB to write, but the disk has {free / 1e9:.1f} GB left; "
            "free some space, give a folder on another disk, or fewer layers"
        )


def _write_config(folder: Path, shape: Shape) -> None:
    text = json.dumps(shape.published, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def _write_shards(
    folder: Path, shards: list[list[RandomTensor]], seed: int, advance: Callable[[int], None]
) -> None:
    weight_map: dict[str, str] = {}
    done = 0
    for number, shard in enumerate(shards, start=1):
        file_name = SINGLE_NAME
        if len(shards) > 1:
            file_name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        with (folder / file_name).open("wb") as file:
            _write_header(file, shard)
            for tensor in shard:
                weight_map[tensor.name] = file_name
                for block in _blocks(tensor, seed):
                    file.write(block.data)
                    done += block.nbytes
                    advance(done)
    if len(shards) > 1:
        index = {"metadata": {"total_size": done}, "weight_map": weight_map}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_header(file: BinaryIO, shard: list[RandomTensor]) -> None:
    # Other readers refuse a safetensors file that does not say it is PyTorch's.
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in shard:
        end = offset + tensor.size_bytes
        header[tensor.name] = {
            "dtype": "BF16",
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts aligned
    file.write(struct.pack("<Q", len(text)) + text)


def _blocks(tensor: RandomTensor, seed: int) -> Iterator[NDArray[np.uint16]]:
    noise = np.random.Generator(np.random.SFC64([seed, zlib.crc32(tensor.name.encode())]))
    left = prod(tensor.shape)
    while left:
        values = noise.standard_normal(min(left, _BLOCK_VALUES), dtype=np.float32)
        values *= np.float32(tensor.deviation)
        values += np.float32(tensor.mean)
        yield _to_bf16(values)
        left -= values.size


def _to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = values.view(np.uint32)
    # Round to the nearest, ties to even: the upper 16 bits are the bf16 number.
    bits += ((bits >> 16) & 1) + np.uint32(0x7FFF)
    return (bits >> 16).astype("<u2")
