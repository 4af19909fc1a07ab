"""A GGUF file: opened and checked with the package gguf, read tensor by tensor."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.models.errors import ModelError, shortened, shown
from pocketlm.models.gguf.metadata import Metadata
from pocketlm.models.gguf.quick_reader import quick_reader
from pocketlm.models.safetensors_files import StoredTensor
from pocketlm.models.stored_grid import GridRows, StoredGrid

# Types that are numbers, as safetensors has them.
PLAIN = ("F32", "F16", "BF16")
_BLOCK = 32
# Types whose block is one float16 scale and whole numbers, and the bits that hold those: Q4_0 has
# scales of either sign, so that its codes count from -8 to 8.
_GRIDS: Mapping[str, tuple[int, bool]] = {
    "Q4_0": (4, True),
    "Q5_0": (8, False),
    "Q8_0": (8, False),
}
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class GgufTensor:
    """One tensor.

    Attributes:
        shape: [out, in] or [size].
        stored: its bytes: rows of them, or of numbers for PLAIN types.
    """

    shape: tuple[int, ...]
    type_name: str
    stored: StoredTensor

    @property
    def dtype(self) -> str:
        return self.type_name

    @property
    def size_bytes(self) -> int:
        return self.stored.size_bytes

    @property
    def grid(self) -> StoredGrid | None:
        if self.type_name not in _GRIDS:
            return None
        bits, has_zero_points = _GRIDS[self.type_name]
        return StoredGrid(bits, _BLOCK, has_zero_points, f"GGUF {self.type_name}")

    @property
    def off_grid(self) -> str | None:
        return None

    def grid_rows(self, start: int, stop: int) -> GridRows:
        """Return the codes of rows start..stop: the numbers over the scale of their block."""
        data = self._data(start, stop)
        blocks = data.reshape(len(data), self.shape[1] // _BLOCK, -1)
        scales = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0].astype(np.float32)
        weights = self._dequantized(data).reshape(len(data), -1, _BLOCK)
        steps = np.where(scales == 0, np.float32(1), scales)[:, :, None]
        with np.errstate(invalid="ignore"):
            integers = np.rint(weights / steps).astype(np.int16)
        return GridRows(integers.reshape(len(data), -1), scales)

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop in float32."""
        return torch.from_numpy(self._dequantized(self._data(start, stop)))

    def blocks(self) -> Iterator[bytearray]:
        """Yield the stored bytes."""
        yield from self.stored.blocks(_BLOCK_BYTES)

    def _data(self, start: int, stop: int) -> NDArray[np.uint8]:
        row_bytes = self.stored.row_bytes
        data = self.stored.read_bytes(start * row_bytes, stop * row_bytes)
        return np.frombuffer(data, np.uint8).reshape(stop - start, row_bytes)

    def _dequantized(self, data: NDArray[np.uint8]) -> NDArray[np.float32]:
        gguf = library()
        with np.errstate(all="ignore"):
            values = gguf.dequantize(data, gguf.GGMLQuantizationType[self.type_name])
        return np.ascontiguousarray(values, np.float32)


@dataclass(frozen=True)
class GgufFile:
    """A file whose header was checked."""

    metadata: Metadata
    tensors: Mapping[str, GgufTensor]


def library() -> ModuleType:
    """Return the package gguf.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            "GGUF files are read with the package gguf, not installed; run: "
            "pip install 'pocketlm[imports]'"
        ) from error
    module: ModuleType = gguf
    return module


def read_gguf(path: Path) -> GgufFile:
    """Read the header of a file.

    Raises:
        ModelError: it is no whole GGUF file, or has a type of tensor that cannot be read.
    """
    library()
    # The package says on its logger, at length, what it raises.
    logging.getLogger("gguf.gguf_reader").setLevel(logging.CRITICAL)
    try:
        with np.errstate(all="ignore"):
            reader = quick_reader()(path)
            tensors = {tensor.name: _tensor(path, tensor) for tensor in reader.tensors}
    except ModelError:
        raise
    except OSError:
        raise
    except Exception as error:  # it checks little, and stumbles over what does not fit
        raise ModelError(
            f"{path}: no GGUF file, truncated, damaged, or with a type of tensor that the package "
            f"gguf does not know ({shortened(str(error))}); download it again"
        ) from error
    if reader.byte_order != "I":
        raise ModelError(f"{path}: written for machines of the other byte order; convert it anew")
    return GgufFile(Metadata(path, dict(reader.fields)), tensors)


def _tensor(path: Path, tensor: Any) -> GgufTensor:
    gguf = library()
    name, shape = tensor.tensor_type.name, tuple(int(size) for size in reversed(tensor.shape))
    offset, size_bytes = int(tensor.data_offset), int(tensor.n_bytes)
    if offset + size_bytes > path.stat().st_size:
        raise ModelError(f"{path}: truncated: ends within {tensor.name}; download it again")
    if name in PLAIN:
        return GgufTensor(shape, name, StoredTensor(path, name, shape, offset))
    block, block_bytes = gguf.GGML_QUANT_SIZES[tensor.tensor_type]
    try:
        gguf.dequantize(np.zeros((1, block_bytes), np.uint8), tensor.tensor_type)
    except NotImplementedError as error:
        raise ModelError(
            f"{path}: {tensor.name} has type {name}, which the package gguf cannot dequantize; "
            "take a file of another type, such as Q8_0 or BF16"
        ) from error
    if len(shape) != 2:
        raise ModelError(f"{path}: {tensor.name} has type {name} and shape {shown(list(shape))}")
    row_bytes = shape[1] // block * block_bytes
    return GgufTensor(shape, name, StoredTensor(path, "U8", (shape[0], row_bytes), offset))
