"""Initializers' bytes → model.onnx.data, streamed and aligned."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir

from pocketlm.edge_build.backends.onnx.stored import StoredTensor

# Pages: 4 KiB everywhere, 16 KiB on newer phones; large tensors start on either.
_PAGE = 1 << 12
_LARGE_PAGE = 1 << 14
_LARGE_TENSOR = 1 << 20


@dataclass(frozen=True)
class _Reference:
    """The tensor of a region that is longest: its bytes serve the others too."""

    name: str
    tensor: StoredTensor


def attach_weights(
    model: onnx_ir.Model, tensors: Mapping[str, StoredTensor], data_file: Path
) -> None:
    """Write the data file and point every initializer of `tensors` into it.

    Memory follows one piece of one tensor. Tensors of one region get the same offset; regions
    smaller than a page stay in the graph's own file.

    Args:
        tensors: by initializer name.
    """
    offsets: dict[str, int] = {}
    with data_file.open("wb") as file:
        for region, longest in _longest_by_region(tensors).items():
            if longest.tensor.size_bytes >= _PAGE:
                offsets[region] = _append(file, longest)
    for name, value in model.graph.initializers.items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        if tensor.region in offsets:
            value.const_value = onnx_ir.ExternalTensor(
                data_file.name,
                offsets[tensor.region],
                tensor.size_bytes,
                onnx_ir.DataType.from_numpy(tensor.dtype),
                shape=onnx_ir.Shape(tensor.shape),
                name=name,
                base_dir=str(data_file.parent),
            )
        else:
            values = np.concatenate([piece.reshape(-1) for piece in tensor.pieces()])
            value.const_value = onnx_ir.tensor(values.reshape(tensor.shape), name=name)


def _longest_by_region(tensors: Mapping[str, StoredTensor]) -> dict[str, _Reference]:
    longest: dict[str, _Reference] = {}
    for name, tensor in tensors.items():
        known = longest.get(tensor.region)
        if known is None or tensor.size_bytes > known.tensor.size_bytes:
            longest[tensor.region] = _Reference(name, tensor)
    return longest


def _append(file: BinaryIO, reference: _Reference) -> int:
    size = reference.tensor.size_bytes
    page = _LARGE_PAGE if size >= _LARGE_TENSOR else _PAGE
    offset = -(-file.tell() // page) * page
    # Written, not skipped: holes and zeros are the same bytes, but copies may not keep holes.
    file.write(bytes(offset - file.tell()))
    for piece in reference.tensor.pieces():
        file.write(piece.tobytes())
    written = file.tell() - offset
    assert written == size, f"{reference.name}: wrote {written} bytes, not {size}"
    return offset
