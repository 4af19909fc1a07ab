"""Deliberate faults of an ONNX artifact, each small: what `verify` must see (docs/numerics.md)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from pocketlm.models.config import Rotary
from pocketlm.models.layers import inverse_frequencies, rotary_tables
from tests.corruptions.bundle_copy import (
    BELOW_FLOAT_NOISE,
    NEVER_FED,
    BundleCopy,
    Change,
    Corruption,
    exchange,
    flip,
    noise,
    times,
)
from tests.corruptions.settings_faults import SETTINGS

Fault = Callable[["OnnxCopy"], object]


class OnnxCopy(BundleCopy):
    """A copy whose ONNX graph can be changed.

    Attributes:
        graph: with all weights inside.
    """

    backend = "onnx"

    def __init__(self, bundle: Path, folder: Path) -> None:
        super().__init__(bundle, folder)
        self.model = onnx.load(self.artifact)
        self.graph = self.model.graph

    def write_artifact(self) -> None:
        onnx.save(self.model, self.artifact)

    def nodes(self, kind: str) -> list[Any]:
        return [node for node in self.graph.node if node.op_type == kind]

    def attention(self, layer: int) -> Any:
        return self.nodes("GroupQueryAttention")[layer]

    def weight(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self._tensor(name)).copy()

    def set_weight(self, name: str, values: NDArray[Any]) -> None:
        self._tensor(name).CopyFrom(numpy_helper.from_array(values, name))

    def change(self, name: str, change: Change) -> None:
        """Change a weight in place."""
        values = self.weight(name)
        change(values)
        self.set_weight(name, values)

    def _tensor(self, name: str) -> Any:
        return next(tensor for tensor in self.graph.initializer if tensor.name == name)


def attribute(node: Any, name: str) -> Any:
    return next(value for value in node.attribute if value.name == name)


def _windows(change: int, *layers: int) -> Fault:
    def apply(copy: OnnxCopy) -> None:
        for layer in layers or copy.local_layers():
            attribute(copy.attention(layer), "local_window_size").i += change

    return apply


def _scale(layer: int, factor: float) -> Fault:
    def apply(copy: OnnxCopy) -> None:
        attribute(copy.attention(layer), "scale").f *= factor

    return apply


def _rotary(base: int, factor: float) -> Fault:
    """Make the tables of a base anew for another one."""

    def apply(copy: OnnxCopy) -> None:
        head_dim = int(copy.manifest.model["layers"][0]["head_dim"])
        frequencies = inverse_frequencies(Rotary(base * factor, 1.0, head_dim))
        tables = rotary_tables(torch.arange(copy.manifest.context_length), frequencies)
        for kind, table in zip(("cosines", "sines"), tables, strict=True):
            copy.set_weight(f"rotary.{kind}_{base}_1", table.numpy())

    return apply


def _rows(name: str, change: Change) -> Fault:
    return lambda copy: copy.change(name, change)


def _noise(copy: OnnxCopy) -> None:
    last = len(copy.manifest.model["layers"]) - 1
    generator = np.random.default_rng(1)
    for part in ("qkv_proj", "o_proj"):
        copy.change(f"layers.{last}.attention.{part}.scales", noise(generator, 0.03))


def _shared_table(change: Change, part: str) -> Fault:
    """Change the table that is both embedding and head; rows are those of tokens."""

    def apply(copy: OnnxCopy) -> None:
        copy.change(f"embed_tokens.{part}", change)
        copy.change(f"lm_head.{part}", change)

    return apply


def _epsilon(index: int, value: float) -> Fault:
    def apply(copy: OnnxCopy) -> None:
        attribute(copy.nodes("RMSNormalization")[index], "epsilon").f = value

    return apply


def _erf(*layers: int) -> Fault:
    def apply(copy: OnnxCopy) -> None:
        gelus = copy.nodes("Gelu")
        for layer in layers or range(len(gelus)):
            attribute(gelus[layer], "approximate").s = b"none"

    return apply


def _swap_weights(first: str, second: str) -> Fault:
    def apply(copy: OnnxCopy) -> None:
        values = copy.weight(first)
        copy.set_weight(first, copy.weight(second))
        copy.set_weight(second, values)

    return apply


def _softcap(copy: OnnxCopy) -> None:
    copy.attention(2).attribute.append(onnx.helper.make_attribute("softcap", 50.0))


def _no_rotation(copy: OnnxCopy) -> None:
    attribute(copy.attention(2), "do_rotary").i = 0


def _gate_and_up(copy: OnnxCopy) -> None:
    products = copy.nodes("MatMulNBits")
    gate = next(node for node in products if "layers.1.mlp.gate_proj.codes" in node.input)
    up = next(node for node in products if "layers.1.mlp.up_proj.codes" in node.input)
    gate.output[0], up.output[0] = up.output[0], gate.output[0]


def _skip_residual(copy: OnnxCopy) -> None:
    last = copy.nodes("Add")[-1]
    last.input[0] = last.input[1]


def _embedding_scale(copy: OnnxCopy) -> None:
    (gathered,) = copy.nodes("GatherBlockQuantized")
    scaled = next(node for node in copy.nodes("Mul") if gathered.output[0] in node.input)
    copy.set_weight(scaled.input[1], copy.weight(scaled.input[1]) * np.float32(1.004))


def _table_of(base: int, change: Change) -> Fault:
    return lambda copy: copy.change(f"rotary.cosines_{base}_1", change)


def _last_row(values: NDArray[Any]) -> None:
    values[-1] = values[-2]


_MLP, _QKV = "layers.3.mlp", "layers.3.attention.qkv_proj"
CORRUPTIONS: tuple[Corruption[OnnxCopy], ...] = (
    Corruption("window one shorter in one layer", _windows(-1, 0)),
    Corruption("window one longer in one layer", _windows(1, 4)),
    Corruption("window one shorter in every local layer", _windows(-1)),
    Corruption("window one longer in every local layer", _windows(1)),
    Corruption("rotary base of global layers × 1.01", _rotary(1_000_000, 1.01)),
    Corruption("rotary base of local layers × 1.01", _rotary(10_000, 1.01)),
    Corruption("rotary base of global layers × 1.1", _rotary(1_000_000, 1.1)),
    Corruption("last row of a rotary table is the one before", _table_of(10_000, _last_row)),
    Corruption(
        "two rows in the middle of a rotary table exchanged",
        _table_of(1_000_000, exchange(slice(300, 301), slice(301, 302))),
    ),
    Corruption("no rotation in one layer", _no_rotation),
    Corruption("erf form of GELU in every layer", _erf()),
    Corruption("erf form of GELU in one layer", _erf(3)),
    Corruption("attention scale × 1.01 in one layer", _scale(3, 1.01)),
    Corruption("attention scale × 1.001 in one layer", _scale(3, 1.001)),
    Corruption("soft cap of 50 on one layer's scores", _softcap),
    Corruption(
        "epsilon of one norm 1e-5 for 1e-6",
        _epsilon(7, 1e-5),
        missed=BELOW_FLOAT_NOISE,
    ),
    Corruption("one weight of a norm × 1.05", _rows("layers.2.mlp_norm.weight", times(5, 1.05))),
    Corruption("final norm × 1.002", _rows("norm.weight", times(slice(None), 1.002))),
    Corruption(
        "norms of two layers exchanged",
        _swap_weights("layers.1.mlp_norm.weight", "layers.2.mlp_norm.weight"),
    ),
    Corruption("embedding scale × 1.004, as bfloat16 may round", _embedding_scale),
    Corruption("last residual connection left out", _skip_residual),
    Corruption("gate and up exchanged in one layer", _gate_and_up),
    Corruption("one scale × 2 in a query projection", _rows(f"{_QKV}.scales", times((3, 1), 2))),
    Corruption("one scale × 2 in an MLP", _rows(f"{_MLP}.down_proj.scales", times((9, 4), 2))),
    Corruption("one scale × 1.1 in an MLP", _rows(f"{_MLP}.down_proj.scales", times((9, 4), 1.1))),
    Corruption("one scale × 2 of a token's row", _shared_table(times((2000, 3), 2), "scales")),
    Corruption("noise of 3 % on the scales of the last layer's attention", _noise),
    Corruption("highest bit of one code", _rows(f"{_MLP}.down_proj.codes", flip((9, 4, 3), 8))),
    Corruption("lowest bit of one code", _rows(f"{_MLP}.down_proj.codes", flip((9, 4, 3), 1))),
    Corruption("16 bytes of codes lost", _rows(f"{_MLP}.up_proj.codes", times((50, 3), 0))),
    Corruption("one zero point 9 for 8", _rows(f"{_MLP}.up_proj.zero_points", flip((7, 1), 1))),
    Corruption("one row of the head lost", _rows("lm_head.codes", flip((777,), 0x77))),
    Corruption(
        "200 rows of the embedding exchanged",
        _rows("embed_tokens.codes", exchange(slice(3100, 3200), slice(3200, 3300))),
    ),
    Corruption(
        "one row of the embedding that no golden text feeds",
        _rows("embed_tokens.codes", flip((3001,), 0x77)),
        missed=NEVER_FED,
    ),
    Corruption(
        "genai_config.json without chunks",
        lambda copy: copy.change_document(
            "genai_config.json", lambda document: document["search"].pop("chunk_size")
        ),
    ),
    *SETTINGS,
)
