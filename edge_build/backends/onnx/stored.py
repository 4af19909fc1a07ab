"""StoredTensor: the bytes behind one initializer, read when they are written."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketlm.edge_build.backends.onnx.blocks import PIECE_BYTES, BlockedWeight
from pocketlm.edge_build.quantization.weight import WeightStore


@dataclass(frozen=True)
class StoredTensor:
    """One initializer's bytes.

    Attributes:
        region: tensors of one region start at the same byte of the data file, so a table with
            two readers, and every tensor of equal zero points, is stored once.
        pieces: yields the bytes in order, as arrays.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    region: str
    pieces: Callable[[], Iterable[NDArray[Any]]]

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def floating(weights: WeightStore, name: str) -> StoredTensor:
    """Return a float32 weight of the store."""
    shape = weights.floating(name).shape

    def pieces() -> Iterator[NDArray[Any]]:
        weight = weights.floating(name)
        rows = max(1, PIECE_BYTES // max(1, weight[:1].nbytes))
        for start in range(0, weight.shape[0], rows):
            yield np.asarray(weight[start : start + rows])

    return StoredTensor(shape, np.dtype(np.float32), f"{name}.weight", pieces)


def constant(name: str, values: NDArray[Any]) -> StoredTensor:
    """Return a tensor that is computed at build time."""
    return StoredTensor(values.shape, values.dtype, name, lambda: (values,))


def cache_scales(name: str, scales: NDArray[np.float32]) -> StoredTensor:
    """Return one cache's scales of keys or values, [K, D], as caches broadcast them."""
    return constant(name, scales[None, :, None, :])


def codes(weights: WeightStore, names: Sequence[str], shape: tuple[int, ...]) -> StoredTensor:
    """Return unsigned codes, weights one below the other, in the shape that an operator wants."""

    # Mapped anew when it is written: pages of a tensor that is done are given back.
    def pieces() -> Iterator[NDArray[Any]]:
        for name in names:
            yield from BlockedWeight(weights.quantized(name)).code_pieces()

    return StoredTensor(shape, np.dtype(np.uint8), f"{'+'.join(names)}.codes", pieces)


def scales(weights: WeightStore, names: Sequence[str]) -> StoredTensor:
    """Return the scales, one a block, of weights one below the other."""
    blocked = [BlockedWeight(weights.quantized(name)) for name in names]
    shape = (sum(weight.weight.out_features for weight in blocked), blocked[0].blocks)

    def pieces() -> Iterator[NDArray[Any]]:
        for name in names:
            yield from BlockedWeight(weights.quantized(name)).scale_pieces()

    return StoredTensor(shape, np.dtype(np.float32), f"{'+'.join(names)}.scales", pieces)


def zero_points(weights: WeightStore, names: Sequence[str]) -> StoredTensor:
    """Return packed zero points of weights one below the other.

    Those of symmetric weights are one byte value throughout, so they all share a region.
    """
    blocked = [BlockedWeight(weights.quantized(name)) for name in names]
    shape = (sum(b.weight.out_features for b in blocked), blocked[0].zero_point_row_bytes)
    region = f"{'+'.join(names)}.zero_points"
    if all(b.weight.zero_points is None for b in blocked):
        region = f"zero_points.{blocked[0].zero_point_byte:#x}"

    def pieces() -> Iterator[NDArray[Any]]:
        for name in names:
            yield from BlockedWeight(weights.quantized(name)).zero_point_pieces()

    return StoredTensor(shape, np.dtype(np.uint8), region, pieces)
