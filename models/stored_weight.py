"""A weight of the Decoder in a checkpoint's files, read by rows in float32."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pocketlm.models.coded_slice import CodedSlice
from pocketlm.models.safetensors_files import StoredTensor
from pocketlm.models.stored_grid import GridRows, StoredGrid
from pocketlm.models.tensor_views import TensorSlice

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class StoredSlice:
    """Rows of a weight that lie in one tensor.

    Attributes:
        tensor: these rows; or, if they are columns there, the whole matrix.
        columns: which columns of `tensor` are the rows; None if they are rows there too.
    """

    tensor: StoredTensor
    columns: tuple[int, int] | None = None

    @classmethod
    def at(cls, tensor: StoredTensor, piece: TensorSlice) -> "StoredSlice":
        """Return the rows of a slice of a tensor whose shape was checked."""
        if piece.layer is not None:
            offset = tensor.offset + piece.layer * tensor.row_bytes
            tensor = replace(tensor, shape=tensor.shape[1:], offset=offset)
        if piece.is_transposed:
            return cls(tensor, (piece.start, piece.start + piece.rows))
        offset = tensor.offset + piece.start * tensor.row_bytes
        return cls(replace(tensor, shape=(piece.rows, *tensor.shape[1:]), offset=offset))

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    @property
    def grid(self) -> StoredGrid | None:
        """None: numbers, not codes."""
        return None

    @property
    def off_grid(self) -> str | None:
        return None

    @property
    def rows(self) -> int:
        if self.columns is None:
            return self.tensor.shape[0]
        return self.columns[1] - self.columns[0]

    @property
    def size_bytes(self) -> int:
        row_bytes = self.tensor.size_bytes // self.tensor.shape[-1 if self.columns else 0]
        return self.rows * row_bytes

    def read_into(self, rows: Tensor, start: int) -> None:
        """Fill float32 `rows` with the slice's rows from `start` on.

        Columns are scattered over the whole matrix, which is then read block by block.
        """
        if self.columns is None:
            for first, block in self._blocks(start, start + len(rows)):
                rows[first - start : first - start + len(block)] = block
            return
        column = self.columns[0] + start
        for first, block in self._blocks(0, self.tensor.shape[0]):
            rows[:, first : first + len(block)] = block[:, column : column + len(rows)].T

    def blocks(self) -> Iterator[bytes | bytearray]:
        """Yield the slice's bytes in the order of the file, a few megabytes at once."""
        if self.columns is None:
            yield from self.tensor.blocks(_BLOCK_BYTES)
            return
        for _, block in self._blocks(0, self.tensor.shape[0]):
            yield block[:, slice(*self.columns)].contiguous().view(torch.uint8).numpy().tobytes()

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the first row of each block of `tensor`, and the block in the stored dtype."""
        row_bytes = self.tensor.row_bytes
        step = max(1, _BLOCK_BYTES // row_bytes)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            data = self.tensor.read_bytes(first * row_bytes, last * row_bytes)
            block = torch.frombuffer(data, dtype=DTYPES[self.tensor.dtype])
            yield first, block.view(-1, *self.tensor.shape[1:])


@dataclass(frozen=True)
class StoredWeight:
    """A weight whose slices stand one below the other.

    Attributes:
        shape: [out, in] or [size].
    """

    shape: tuple[int, ...]
    slices: tuple[StoredSlice | CodedSlice, ...]

    @property
    def dtype(self) -> str:
        return self.slices[0].dtype

    @property
    def grid(self) -> StoredGrid | None:
        """The grid of its codes; None where it is stored as numbers, or on several grids."""
        grids = {piece.grid for piece in self.slices}
        return grids.pop() if len(grids) == 1 else None

    @property
    def off_grid(self) -> str | None:
        """Why codes that are stored are on no grid."""
        return next((piece.off_grid for piece in self.slices if piece.off_grid), None)

    @property
    def size_bytes(self) -> int:
        """Bytes as they are stored."""
        return sum(piece.size_bytes for piece in self.slices)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as it is stored."""
        return self.size_bytes // self.shape[0]

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop in float32.

        Memory: the result, and a block of a few megabytes in the stored dtype.
        """
        rows = torch.empty(stop - start, *self.shape[1:])
        for piece, low, high, first in self._pieces(start, stop):
            piece.read_into(rows[low - start : high - start], low - first)
        return rows

    def grid_rows(self, start: int, stop: int) -> GridRows:
        """Return the codes of rows start..stop of a weight that has a grid."""
        found = []
        for piece, low, high, first in self._pieces(start, stop):
            assert isinstance(piece, CodedSlice), "a weight without codes"
            found.append(piece.grid_rows(low - first, high - first))
        if len(found) == 1:
            return found[0]
        return GridRows(
            np.concatenate([rows.integers for rows in found]),
            np.concatenate([rows.scales for rows in found]),
        )

    def blocks(self) -> Iterator[bytes | bytearray]:
        """Yield the stored bytes, a few megabytes at once."""
        for piece in self.slices:
            yield from piece.blocks()

    def _pieces(
        self, start: int, stop: int
    ) -> Iterator[tuple[StoredSlice | CodedSlice, int, int, int]]:
        """Yield each slice with rows of start..stop: which, and the first row of the slice."""
        first = 0
        for piece in self.slices:
            low, high = max(start, first), min(stop, first + piece.rows)
            if low < high:
                yield piece, low, high, first
            first += piece.rows
