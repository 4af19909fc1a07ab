"""AutoAWQ in its "gemm" layout: output channels packed in 32-bit words, in an order of their own.

Layout: https://github.com/casper-hansen/AutoAWQ, awq/modules/linear/gemm.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.models.coded_slice import dequantized
from pocketlm.models.errors import ModelError, shown
from pocketlm.models.formats import Format, OpenWeight
from pocketlm.models.packed_tensors import (
    FLOATS,
    PackedTensors,
    groups_of,
    read_float,
    read_whole,
)
from pocketlm.models.safetensors_files import StoredTensor
from pocketlm.models.stored_grid import GridRows, StoredGrid, unpack_words

_BITS, _IN_WORD = 4, 8
# Which four bits of a word, from the lowest, hold channels 0 to 7.
_CHANNEL_BITS = (0, 4, 1, 5, 2, 6, 3, 7)
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class _Weight:
    """One weight; `group_size` None is a whole row."""

    shape: tuple[int, int]
    group_size: int | None
    qweight: StoredTensor
    qzeros: StoredTensor
    scales: StoredTensor

    @property
    def dtype(self) -> str:
        return "AWQ 4 bits"

    @property
    def size_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in (self.qweight, self.qzeros, self.scales))

    @property
    def grid(self) -> StoredGrid | None:
        return StoredGrid(_BITS, self.group_size, True, self.dtype)

    @property
    def off_grid(self) -> str | None:
        return None

    def grid_rows(self, start: int, stop: int) -> GridRows:
        codes = _channels(self.qweight, start, stop)  # [in, rows]
        zeros = _channels(self.qzeros, start, stop)  # [groups, rows]
        scales = read_float(self.scales)[:, start:stop]
        repeated = np.repeat(zeros, codes.shape[0] // zeros.shape[0], axis=0)
        integers = np.ascontiguousarray((codes - repeated).T)
        return GridRows(integers, np.ascontiguousarray(scales.T))

    def rows(self, start: int, stop: int) -> Tensor:
        return dequantized(self.grid_rows(start, stop))

    def blocks(self) -> Iterator[bytearray]:
        for tensor in (self.qweight, self.qzeros, self.scales):
            yield from tensor.blocks(_BLOCK_BYTES)


def _channels(tensor: StoredTensor, start: int, stop: int) -> NDArray[np.int16]:
    """Return the codes of output channels start..stop, [rows of the tensor, channels]."""
    first, last = start // _IN_WORD, -(-stop // _IN_WORD)
    words = read_whole(tensor)[:, first:last]
    codes = unpack_words(words[..., None], _BITS)[..., list(_CHANNEL_BITS)]
    codes = codes.reshape(words.shape[0], -1)
    return codes[:, start - first * _IN_WORD : stop - first * _IN_WORD]


def _prepare(settings: Mapping[str, Any]) -> OpenWeight:
    bits, group_size = settings.get("bits", settings.get("w_bit")), settings.get("group_size")
    version = str(settings.get("version", "gemm")).lower()
    if bits != _BITS or type(group_size) is not int or version != "gemm":
        raise ModelError(
            f"config.json: AWQ with bits={shown(bits)}, group_size={shown(group_size)} and "
            f"version={shown(version)}; 4 bits in the version 'gemm' can be read. Give the "
            "checkpoint that it was made from"
        )
    return partial(_open, group_size=None if group_size < 0 else group_size)


def _open(packed: PackedTensors, group_size: int | None) -> _Weight:
    out_features, in_features = packed.shape
    groups = groups_of(packed, group_size or in_features)
    return _Weight(
        packed.shape,
        group_size,
        packed.require("qweight", ("I32",), (in_features, out_features // _IN_WORD)),
        packed.require("qzeros", ("I32",), (groups, out_features // _IN_WORD)),
        packed.require("scales", FLOATS, (groups, out_features)),
    )


FORMAT = Format("AWQ", ("qweight", "qzeros", "scales"), _prepare)
