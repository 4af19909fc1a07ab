"""The modules that stand in for a Decoder's own while it is traced: one ONNX operator each.

They hold no weights, only what the store's will look like; `StoredTensor`s say where bytes are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pocketlm.edge_build.backends.onnx import stored
from pocketlm.edge_build.backends.onnx.blocks import BlockedWeight
from pocketlm.edge_build.backends.onnx.stored import StoredTensor
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.models.decoder import Decoder
from pocketlm.models.layers import RMSNorm

# Int8 products of activations quantized in the weight's blocks: level 4 of MatMulNBits.
INT8_ACTIVATIONS = 4


class OperatorModule(nn.Module):
    """One operator with its initializers."""

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        super().__init__()
        self.tensors = dict(tensors)
        for name, tensor in tensors.items():
            dtype = getattr(torch, tensor.dtype.name)
            self.register_buffer(name, torch.empty(tensor.shape, dtype=dtype))

    def operator(
        self,
        operator: str,
        inputs: Sequence[Tensor | None],
        attributes: dict[str, Any],
        shape: Sequence[int | torch.SymInt],
    ) -> Tensor:
        """Return the float32 result of one ONNX operator."""
        result: Tensor = torch.onnx.ops.symbolic(
            operator, inputs, attributes, dtype=torch.float32, shape=shape, version=_since(operator)
        )
        return result


class QuantizedLinear(OperatorModule):
    """x @ weight.T by MatMulNBits, activations rounded to int8 in the weight's blocks.

    Several weights that read the same x stand one below the other, as one product.
    """

    codes: Tensor
    scales: Tensor
    zero_points: Tensor

    def __init__(self, weights: WeightStore, names: Sequence[str]) -> None:
        blocked = BlockedWeight(weights.quantized(names[0]))
        rows = sum(weights.quantized(name).out_features for name in names)
        columns = blocked.weight.in_features
        packed = (rows, blocked.blocks, blocked.row_bytes // blocked.blocks)
        super().__init__(
            {
                "codes": stored.codes(weights, names, packed),
                "scales": stored.scales(weights, names),
                # Constant, but written: without them Arm picks kernels that quantize whole rows
                # of activations, and its results leave x86's by several percent.
                "zero_points": stored.zero_points(weights, names),
            }
        )
        self.rows = rows
        self.attributes = {
            "K": columns,
            "N": rows,
            "bits": blocked.bits,
            "block_size": blocked.block,
            "accuracy_level": INT8_ACTIVATIONS,
        }

    def forward(self, x: Tensor) -> Tensor:
        inputs = (x, self.codes, self.scales, self.zero_points)
        shape = (*x.shape[:-1], self.rows)
        return self.operator("com.microsoft::MatMulNBits", inputs, self.attributes, shape)


class JoinedLinear(QuantizedLinear):
    """Linear layers that read the same x as one product, which the graph computes once."""

    def __init__(self, weights: WeightStore, names: Sequence[str]) -> None:
        super().__init__(weights, names)
        self.sizes = [weights.quantized(name).out_features for name in names]
        self._last: tuple[Tensor, Sequence[Tensor]] | None = None

    def shares(self, x: Tensor) -> Sequence[Tensor]:
        """Return each layer's columns of the product; the same tensors for every layer's call."""
        if self._last is None or self._last[0] is not x:
            self._last = x, self._split(self(x))
        return self._last[1]

    def _split(self, product: Tensor) -> Sequence[Tensor]:
        split: Sequence[Tensor] = torch.onnx.ops.symbolic_multi_out(
            "Split",
            (product, torch.tensor(self.sizes)),
            {"axis": -1},
            dtypes=[torch.float32] * len(self.sizes),
            shapes=[(*product.shape[:-1], size) for size in self.sizes],
            version=23,
        )
        return split


class Share(nn.Module):
    """One layer of a joined product."""

    def __init__(self, shares: Callable[[Tensor], Sequence[Tensor]], index: int) -> None:
        super().__init__()
        # A function, not the module: that has its own place and name in the Decoder.
        self.shares, self.index = shares, index

    def forward(self, x: Tensor) -> Tensor:
        return self.shares(x)[self.index]


class FloatLinear(OperatorModule):
    """x @ weight.T in float32, the weight as it is stored: a tied table serves both ends."""

    weight: Tensor

    def __init__(self, weights: WeightStore, name: str) -> None:
        super().__init__({"weight": stored.floating(weights, name)})

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], self.weight.shape[0])
        return self.operator("com.microsoft::FusedMatMul", (x, self.weight), {"transB": 1}, shape)


class QuantizedEmbedding(OperatorModule):
    """Rows of a quantized table by GatherBlockQuantized.

    The zero points of a symmetric table are the operator's default ones.
    """

    codes: Tensor
    scales: Tensor
    zero_points: Tensor

    def __init__(self, weights: WeightStore, name: str) -> None:
        blocked = BlockedWeight(weights.quantized(name))
        table = (blocked.weight.out_features, blocked.row_bytes)
        tensors = {
            "codes": stored.codes(weights, (name,), table),
            "scales": stored.scales(weights, (name,)),
        }
        has_zero_points = blocked.weight.scheme.zero_points
        if has_zero_points:
            tensors["zero_points"] = stored.zero_points(weights, (name,))
        super().__init__(tensors)
        self.has_zero_points = has_zero_points
        self.columns, self.padded = blocked.weight.in_features, blocked.padded_columns
        self.attributes = {
            "bits": blocked.bits,
            "block_size": blocked.block,
            "gather_axis": 0,
            "quantize_axis": 1,
        }

    def forward(self, tokens: Tensor) -> Tensor:
        inputs = [self.codes, tokens, self.scales]
        if self.has_zero_points:
            inputs.append(self.zero_points)
        shape = (*tokens.shape, self.padded)
        operator = "com.microsoft::GatherBlockQuantized"
        rows = self.operator(operator, inputs, self.attributes, shape)
        return rows if self.padded == self.columns else rows[..., : self.columns]


class FloatEmbedding(OperatorModule):
    """Rows of a float32 table."""

    weight: Tensor

    def __init__(self, weights: WeightStore, name: str) -> None:
        super().__init__({"weight": stored.floating(weights, name)})

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.embedding(tokens, self.weight)


class Norm(OperatorModule):
    """RMSNorm as one operator, in float32."""

    weight: Tensor

    def __init__(self, weights: WeightStore, name: str, eps: float) -> None:
        super().__init__({"weight": stored.floating(weights, name)})
        self.attributes = {"axis": -1, "epsilon": eps, "stash_type": 1}

    def forward(self, x: Tensor) -> Tensor:
        return self.operator("RMSNormalization", (x, self.weight), self.attributes, x.shape)


def replace_modules(decoder: Decoder, weights: WeightStore) -> None:
    """Replace every module that has a weight by the one that reads it from the store."""
    for name, module in list(decoder.named_modules()):
        if isinstance(module, RMSNorm):
            decoder.set_submodule(name, Norm(weights, name, module.eps))
        elif isinstance(module, nn.Embedding):
            embedding = FloatEmbedding if weights.schemes[name] is None else QuantizedEmbedding
            decoder.set_submodule(name, embedding(weights, name))
        elif isinstance(module, nn.Linear):
            source = weights.head_name() if name == "lm_head" else name
            if weights.schemes[source] is None:
                decoder.set_submodule(name, FloatLinear(weights, source))
            else:
                decoder.set_submodule(name, QuantizedLinear(weights, [source]))
    for layer in range(len(decoder.layers)):
        _join_query_key_value(decoder, weights, f"layers.{layer}.attention")


def _join_query_key_value(decoder: Decoder, weights: WeightStore, attention: str) -> None:
    """Make one product of three, if there are three and they are quantized alike.

    Gate and up stay two: both are large enough for every thread, and splitting their product
    copies more than one quantization of the activations costs.
    """
    names = [f"{attention}.{name}" for name in ("q_proj", "k_proj", "v_proj")]
    if not all(name in weights.schemes for name in names):
        return
    schemes = {weights.schemes[name] for name in names}
    if len(schemes) > 1 or None in schemes:
        return
    joined = JoinedLinear(weights, names)
    decoder.get_submodule(attention).add_module("qkv_proj", joined)
    for index, name in enumerate(names):
        decoder.set_submodule(name, Share(joined.shares, index))


def _since(operator: str) -> int:
    return 1 if "::" in operator else 23
