"""The bytes that XNNPACK and the program keep of a weight, straight from the store.

The lowering writes the same bytes for the weights that it is given; `unrolling` proves it for each
kind of weight, and writes all others without lowering them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pocketlm.edge_build.backends.executorch.parts import (
    channel_order,
    gathered_codes,
    gathered_scales,
)
from pocketlm.edge_build.backends.executorch.unroll.template import LAYERS
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.models.config import ModelConfig
from pocketlm.models.decoder import Decoder
from pocketlm.models.layers import RMSNorm

# Codes and scales of what is multiplied with, and of what rows are gathered from.
Part = Literal["codes", "scales", "float", "gathered_codes", "gathered_scales"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Constant:
    """One constant of a model: a weight of the store, and which part of it in which form."""

    name: str
    part: Part

    @property
    def in_layer(self) -> bool:
        return self.name.startswith(LAYERS)

    def moved(self, layers: int) -> "Constant":
        """Return the same constant so many layers further on; outside of layers there is one."""
        if not self.in_layer:
            return self
        layer, _, rest = self.name.removeprefix(LAYERS).partition(".")
        return replace(self, name=f"{LAYERS}{int(layer) + layers}.{rest}")


def model_constants(config: ModelConfig, weights: WeightStore) -> Iterator[Constant]:
    """Yield every constant of a model."""
    with torch.device("meta"):
        decoder = Decoder(config)
    for name, module in decoder.named_modules():
        gathered = isinstance(module, nn.Embedding)
        if not gathered and not isinstance(module, (nn.Linear, RMSNorm)):
            continue
        stored = weights.head_name() if name == "lm_head" else name
        if weights.schemes[stored] is None:
            yield Constant(stored, "float")
        elif gathered:
            # A table that is the head too is looked up in the head's bytes.
            is_head = stored == weights.head_name()
            yield Constant(stored, "codes" if is_head else "gathered_codes")
            yield Constant(stored, "gathered_scales")
        else:
            yield Constant(stored, "codes")
            yield Constant(stored, "scales")


def constant_bytes(config: ModelConfig, weights: WeightStore, constant: Constant) -> bytes:
    """Return a constant as the delegate or the program keeps it."""
    rows = channel_order(config, constant.name)
    if constant.part == "float":
        return _bytes(weights.floating(constant.name), rows)
    weight = weights.quantized(constant.name)
    if constant.part == "gathered_codes":
        return gathered_codes(weight).tobytes()
    if constant.part == "gathered_scales":
        return gathered_scales(weight).tobytes()
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
