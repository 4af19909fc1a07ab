"""compressed-tensors, "pack-quantized": weight_packed, weight_scale and weight_zero_point.

Settings and packed words are read with the package that defines them:
https://github.com/vllm-project/compressed-tensors.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketlm.models.coded_slice import dequantized
from pocketlm.models.errors import ModelError, shortened, shown
from pocketlm.models.formats import Format, OpenWeight
from pocketlm.models.packed_tensors import (
    FLOATS,
    PackedTensors,
    group_order,
    read_float,
    read_whole,
)
from pocketlm.models.safetensors_files import StoredTensor
from pocketlm.models.stored_grid import GridRows, StoredGrid

_PACKED = "pack-quantized"
_BLOCK_BYTES = 8 << 20

# words, bits, shape, packed axis → codes as int8, from minus half of the range
Unpack = Callable[..., Tensor]


@dataclass(frozen=True)
class _Weight:
    """One weight.

    Attributes:
        zero_points: packed along output channels, or plain int8; None for a symmetric weight.
        order: the group of each input channel, where those of a group do not adjoin.
    """

    shape: tuple[int, int]
    bits: int
    packed: StoredTensor
    scales: StoredTensor
    zero_points: StoredTensor | None
    order: NDArray[np.int64] | None
    unpack: Unpack

    @property
    def dtype(self) -> str:
        return f"compressed-tensors {self.bits} bits"

    @property
    def size_bytes(self) -> int:
        zero_bytes = self.zero_points.size_bytes if self.zero_points else 0
        return self.packed.size_bytes + self.scales.size_bytes + zero_bytes

    @property
    def groups(self) -> int:
        return self.scales.shape[1] if len(self.scales.shape) == 2 else 1

    @property
    def grid(self) -> StoredGrid | None:
        if self.order is not None:
            return None
        group_size = None if self.groups == 1 else self.shape[1] // self.groups
        has_zero_points = self.zero_points is not None or self.bits == 8
        return StoredGrid(self.bits, group_size, has_zero_points, self.dtype)

    @property
    def off_grid(self) -> str | None:
        if self.order is None:
            return None
        return "its groups follow the order of activations (actorder), so their columns are apart"

    def grid_rows(self, start: int, stop: int) -> GridRows:
        assert self.order is None, "no grid"
        codes, zeros, scales = self._read(start, stop)
        return GridRows(codes - np.repeat(zeros, codes.shape[1] // zeros.shape[1], axis=1), scales)

    def rows(self, start: int, stop: int) -> Tensor:
        if self.order is None:
            return dequantized(self.grid_rows(start, stop))
        codes, zeros, scales = self._read(start, stop)
        values = (codes - zeros[:, self.order]).astype(np.float32) * scales[:, self.order]
        return torch.from_numpy(values)

    def blocks(self) -> Iterator[bytearray]:
        for tensor in filter(None, (self.packed, self.scales, self.zero_points)):
            yield from tensor.blocks(_BLOCK_BYTES)
        if self.order is not None:
            yield bytearray(self.order.tobytes())

    def _read(
        self, start: int, stop: int
    ) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.float32]]:
        """Return codes [rows, in], zero points [rows, groups] and scales [rows, groups]."""
        row_bytes, rows = self.packed.row_bytes, stop - start
        data = self.packed.read_bytes(start * row_bytes, stop * row_bytes)
        words = torch.frombuffer(data, dtype=torch.int32).view(rows, -1)
        codes = self.unpack(words, self.bits, torch.Size((rows, self.shape[1])))
        # One scale for the whole tensor is one for each channel.
        scales = np.broadcast_to(
            read_float(self.scales).reshape(-1, self.groups), (self.shape[0], self.groups)
        )[start:stop]
        zeros = np.zeros((rows, self.groups), np.int16)
        if self.zero_points is not None:
            zeros = self._zero_points(self.zero_points)[start:stop].astype(np.int16)
        return codes.numpy().astype(np.int16), zeros, np.array(scales)

    def _zero_points(self, stored: StoredTensor) -> NDArray[Any]:
        values = read_whole(stored)
        if stored.dtype == "I8":
            return values
        size = torch.Size((self.shape[0], self.groups))
        return self.unpack(torch.from_numpy(values.copy()), self.bits, size, 0).numpy()


def _prepare(settings: Mapping[str, Any]) -> OpenWeight:
    config_type, unpack = _library()
    try:
        config = config_type.model_validate(dict(settings))
    except ValueError as error:
        raise ModelError(
            f"config.json: its quantization_config cannot be read: {shortened(str(error))}; use "
            "the config.json of these weights"
        ) from error
    if config.format != _PACKED:
        raise ModelError(
            f"config.json: compressed-tensors with format={shown(config.format)}; {_PACKED} can be "
            "read. Give the checkpoint that it was made from"
        )
    return lambda packed: _open(packed, unpack)


def _open(packed: PackedTensors, unpack: Unpack) -> _Weight:
    out_features, in_features = packed.shape
    codes = packed.require("weight_packed", ("I32",))
    words = {-(-in_features * bits // 32): bits for bits in (4, 8)}
    if len(codes.shape) != 2 or codes.shape[0] != out_features or codes.shape[1] not in words:
        raise ModelError(
            f"{packed.prefix}weight_packed: shape {list(codes.shape)}; of a weight "
            f"[{out_features}, {in_features}] codes of 4 or 8 bits can be read, "
            f"[{out_features}, {' or '.join(map(str, words))}]. Give the checkpoint that it was "
            "made from"
        )
    scales = packed.require("weight_scale", FLOATS)
    groups = scales.shape[1] if len(scales.shape) == 2 else 1
    if scales.shape not in ((out_features, groups), (1,)) or in_features % groups:
        raise ModelError(
            f"{packed.prefix}weight_scale: shape {list(scales.shape)} does not fit a weight "
            f"[{out_features}, {in_features}]; download the checkpoint again"
        )
    bits, zero_points = words[codes.shape[1]], packed.find("weight_zero_point")
    if zero_points is not None:
        rows = out_features if zero_points.dtype == "I8" else -(-out_features * bits // 32)
        zero_points = packed.require("weight_zero_point", ("I32", "I8"), (rows, groups))
    order = group_order(packed, "weight_g_idx", in_features // groups)
    return _Weight(packed.shape, bits, codes, scales, zero_points, order, unpack)


def load_packing() -> Callable[[Tensor, int], Tensor]:
    """Return the package's own packer: codes [out, in] int8 and bits → words int32.

    Raises:
        ModelError: the package is not installed.
    """
    with _loading():
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
    pack: Callable[[Tensor, int], Tensor] = pack_to_int32
    return pack


def _library() -> tuple[Any, Unpack]:
    with _loading():
        from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
        from compressed_tensors.quantization import QuantizationConfig
    return QuantizationConfig, unpack_from_int32


@contextmanager
def _loading() -> Iterator[None]:
    # It loads transformers, and with it whatever of torch's libraries is there to complain.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise ModelError(
            "config.json: weights of compressed-tensors, which are read with the package "
            "compressed-tensors, not installed; run: pip install 'pocketlm[imports]'"
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def _notes(settings: Mapping[str, Any]) -> tuple[str, ...]:
    groups = settings.get("config_groups")
    schemes = list(groups.values()) if isinstance(groups, dict) else []
    if any(isinstance(scheme, dict) and scheme.get("input_activations") for scheme in schemes):
        return ("config.json asks for rounded activations: runtimes round them their own way.",)
    return ()


FORMAT = Format(
    "compressed-tensors",
    ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"),
    _prepare,
    _notes,
)
