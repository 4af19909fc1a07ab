"""QuantizedWeight → the blocks that MatMulNBits and GatherBlockQuantized read.

Both operators want blocks of a power of two from 16 to 256 columns, each with its own scale, the
last one padded. Codes stay what they are; only scales are repeated and rows are padded.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketlm.edge_build.quantization.activations import activation_block
from pocketlm.edge_build.quantization.weight import QuantizedWeight
from pocketlm.runtime_py.int4_packing import pack_int4

# Rows are read, converted and written in pieces of about this many bytes.
PIECE_BYTES = 1 << 22


@dataclass(frozen=True)
class BlockedWeight:
    """A weight [out, in] cut into blocks of `block` columns."""

    weight: QuantizedWeight

    @property
    def bits(self) -> int:
        return self.weight.scheme.bits

    @property
    def block(self) -> int:
        return activation_block(self.weight.scheme)

    @property
    def blocks(self) -> int:
        """Blocks in a row."""
        return -(-self.weight.in_features // self.block)

    @property
    def padded_columns(self) -> int:
        return self.blocks * self.block

    @property
    def row_bytes(self) -> int:
        return self.padded_columns * self.bits // 8

    @property
    def zero_point_byte(self) -> int:
        """One byte of packed zero points of a symmetric weight: 8 in each half, or 128."""
        return 0x88 if self.bits == 4 else 0x80

    @property
    def zero_point_row_bytes(self) -> int:
        return -(-self.blocks * self.bits // 8)

    def code_pieces(self) -> Iterator[NDArray[np.uint8]]:
        """Yield rows of unsigned codes, each [rows, row_bytes] uint8.

        Padding is at the zero point of a symmetric weight; inputs have zeros there.
        """
        rows = max(1, PIECE_BYTES // self.row_bytes)
        for start in range(0, self.weight.out_features, rows):
            stored = self.weight.packed[start : start + rows]
            if self.bits == 8:
                stored = (stored.astype(np.int16) + 128).astype(np.uint8)
            missing = self.row_bytes - stored.shape[1]
            yield np.pad(stored, ((0, 0), (0, missing)), constant_values=self.zero_point_byte)

    def scale_pieces(self) -> Iterator[NDArray[np.float32]]:
        """Yield rows of scales, each [rows, blocks] float32, one scale a block."""
        for start, stop in self._row_pieces():
            yield np.asarray(self.weight.scales[start:stop])[:, self._group_of_block()]

    def zero_point_pieces(self) -> Iterator[NDArray[np.uint8]]:
        """Yield rows of packed zero points, each [rows, zero_point_row_bytes]; 4 bits: low first.

        Padding of a row's end holds the zero point of a symmetric weight.
        """
        for start, stop in self._row_pieces():
            rows = stop - start
            if self.weight.zero_points is None:
                shape = (rows, self.zero_point_row_bytes)
                yield np.full(shape, self.zero_point_byte, dtype=np.uint8)
                continue
            zeros = np.asarray(self.weight.zero_points[start:stop])[:, self._group_of_block()]
            if self.bits == 8:
                yield (zeros.astype(np.int16) + 128).astype(np.uint8)
            else:
                even = np.pad(zeros, ((0, 0), (0, zeros.shape[1] % 2)))
                yield pack_int4(np.ascontiguousarray(even))

    def _group_of_block(self) -> NDArray[np.int64]:
        return np.arange(self.blocks) * self.block // self.weight.group_size

    def _row_pieces(self) -> Iterator[tuple[int, int]]:
        rows = max(1, PIECE_BYTES // (4 * self.blocks))
        for start in range(0, self.weight.out_features, rows):
            yield start, min(start + rows, self.weight.out_features)
