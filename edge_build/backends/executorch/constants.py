"""The bytes that XNNPACK and the program keep of a weight, straight from the store.

The lowering writes the same bytes for the weights that it is given; `unrolling` proves it for each
kind of weight, and writes all others without lowering them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_build.backends.executorch.parts import channel_order
from edge_build.backends.executorch.template import LAYERS
from edge_build.quantization.weight import WeightStore
from models.config import ModelConfig
from models.decoder import Decoder
from models.layers import RMSNorm


@dataclass(frozen=True)
class Constant:
    """One constant of a layer: a weight of the store and the part of it.

    Attributes:
        reordered: its rows are in pair order (parts.pair_order).
    """

    name: str
    part: Literal["codes", "scales", "float"]

    def of_layer(self, layer: int) -> "Constant":
        """Return the same constant of another layer."""
        rest = self.name.removeprefix(LAYERS).partition(".")[2]
        return replace(self, name=f"{LAYERS}{layer}.{rest}")

    @property
    def layer(self) -> int:
        return int(self.name.removeprefix(LAYERS).partition(".")[0])


def layer_constants(config: ModelConfig, weights: WeightStore) -> Iterator[Constant]:
    """Yield every constant of every layer."""
    with torch.device("meta"):
        decoder = Decoder(config)
    for name, module in decoder.named_modules():
        if not name.startswith(LAYERS) or not isinstance(module, (nn.Linear, RMSNorm)):
            continue
        if weights.schemes[name] is None:
            yield Constant(name, "float")
        else:
            yield Constant(name, "codes")
            yield Constant(name, "scales")


def constant_bytes(config: ModelConfig, weights: WeightStore, constant: Constant) -> bytes:
    """Return a constant as the delegate or the program keeps it."""
    rows = channel_order(config, constant.name)
    if constant.part == "float":
        return _bytes(weights.floating(constant.name), rows)
    weight = weights.quantized(constant.name)
    if constant.part == "codes":
        # XNNPACK wants even columns in the low four bits, as the store has them.
        return _bytes(weight.packed, rows)
    if weight.scheme.group_size is None:
        return _bytes(weight.scales, rows)
    # Exact: the store's scales are bfloat16 values.
    return _bytes((np.asarray(weight.scales).view(np.uint32) >> 16).astype(np.uint16), rows)


def digest(data: bytes) -> str:
    """Return what the lowering names data by."""
    return hashlib.sha256(data).hexdigest()


def _bytes(array: NDArray[np.generic], rows: NDArray[np.int64] | None) -> bytes:
    return (array if rows is None else array[rows]).tobytes()
