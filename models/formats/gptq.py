"""AutoGPTQ and GPTQModel: qweight, qzeros and scales, input channels packed in 32-bit words.

Version 1 ("gptq") stores each zero point minus one, modulo the codes; version 2 ("gptq_v2") as it
is. Layout: https://github.com/AutoGPTQ/AutoGPTQ, nn_modules/qlinear.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.models.coded_slice import dequantized
from pocketlm.models.errors import ModelError, shown
from pocketlm.models.formats import Format, OpenWeight
from pocketlm.models.packed_tensors import (
    FLOATS,
    PackedTensors,
    group_order,
    groups_of,
    read_float,
    read_whole,
)
from pocketlm.models.safetensors_files import StoredTensor
from pocketlm.models.stored_grid import GridRows, StoredGrid, unpack_words

_LAYOUTS = {"gptq": 1, "gptq_v2": 0}
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class _Settings:
    """What quantization_config says.

    Attributes:
        group_size: None is a whole row.
        zero_point_step: what the stored zero points lack.
    """

    bits: int
    group_size: int | None
    is_symmetric: bool
    zero_point_step: int


@dataclass(frozen=True)
class _Weight:
    """One weight.

    Attributes:
        order: the group of each input channel, where those of a group do not adjoin.
    """

    shape: tuple[int, int]
    settings: _Settings
    qweight: StoredTensor
    qzeros: StoredTensor
    scales: StoredTensor
    order: NDArray[np.int64] | None

    @property
    def dtype(self) -> str:
        return f"GPTQ {self.settings.bits} bits"

    @property
    def size_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in (self.qweight, self.qzeros, self.scales))

    @property
    def grid(self) -> StoredGrid | None:
        if self.order is not None:
            return None
        settings = self.settings
        has_zero_points = not settings.is_symmetric or settings.bits == 8
        return StoredGrid(settings.bits, settings.group_size, has_zero_points, self.dtype)

    @property
    def off_grid(self) -> str | None:
        if self.order is None:
            return None
        return "its groups follow the order of activations (desc_act), so their columns are apart"

    def grid_rows(self, start: int, stop: int) -> GridRows:
        assert self.order is None, "no grid"
        return self._codes(start, stop)

    def rows(self, start: int, stop: int) -> Tensor:
        found = self._codes(start, stop)
        if self.order is None:
            return dequantized(found)
        # Zero points were taken away by column already.
        values = found.integers.astype(np.float32) * found.scales[:, self.order]
        return torch.from_numpy(values)

    def blocks(self) -> Iterator[bytearray]:
        for tensor in (self.qweight, self.qzeros, self.scales):
            yield from tensor.blocks(_BLOCK_BYTES)
        if self.order is not None:
            yield bytearray(self.order.tobytes())

    def _codes(self, start: int, stop: int) -> GridRows:
        bits, step = self.settings.bits, self.settings.zero_point_step
        words = read_whole(self.qweight)[:, start:stop]  # [in / codes a word, rows]
        codes = unpack_words(words.T, bits)
        zeros = unpack_words(read_whole(self.qzeros), bits)[:, start:stop].T  # [rows, groups]
        zeros = (zeros + step) & ((1 << bits) - 1)
        scales = np.ascontiguousarray(read_float(self.scales)[:, start:stop].T)
        if self.order is not None:
            return GridRows(codes - zeros[:, self.order], scales)
        repeated = np.repeat(zeros, codes.shape[1] // zeros.shape[1], axis=1)
        return GridRows(codes - repeated, scales)


def _prepare(settings: Mapping[str, Any]) -> OpenWeight:
    bits, group_size = settings.get("bits"), settings.get("group_size", -1)
    layout = settings.get("checkpoint_format") or "gptq"
    if bits not in (4, 8) or type(group_size) is not int:
        raise ModelError(
            f"config.json: GPTQ with bits={shown(bits)} and group_size={shown(group_size)}; 4 and "
            "8 bits with a whole number can be read. Give the checkpoint that it was made from"
        )
    if layout not in _LAYOUTS or settings.get("is_marlin_format"):
        found = layout if layout not in _LAYOUTS else "marlin"
        raise ModelError(
            f"config.json: GPTQ with checkpoint_format={shown(found)}; {' and '.join(_LAYOUTS)} "
            "can be read. Give the checkpoint that it was made from"
        )
    is_symmetric = settings.get("sym", True) is True
    read = _Settings(
        bits, None if group_size < 0 else group_size, is_symmetric, _LAYOUTS[str(layout)]
    )
    return partial(_open, settings=read)


def _open(packed: PackedTensors, settings: _Settings) -> _Weight:
    out_features, in_features = packed.shape
    group_size = settings.group_size or in_features
    groups, in_word = groups_of(packed, group_size), 32 // settings.bits
    return _Weight(
        packed.shape,
        settings,
        packed.require("qweight", ("I32",), (in_features // in_word, out_features)),
        packed.require("qzeros", ("I32",), (groups, out_features // in_word)),
        packed.require("scales", FLOATS, (groups, out_features)),
        group_order(packed, "g_idx", group_size),
    )


FORMAT = Format("GPTQ", ("qweight", "qzeros", "scales", "g_idx"), _prepare)
