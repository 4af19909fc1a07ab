"""Single operators of the runtime against what the build assumes of them."""

import numpy as np
import onnx_ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from pocketlm.edge_build.quantization.activations import (
    quantize_per_block_symmetric,
    quantize_per_channel_symmetric,
)
from pocketlm.models.layers import softmax_attention, visible

OUT, COLUMNS = 24, 320
HEADS, SHARED, SIZE, SLOTS = 4, 2, 32, 24
ATTENTION_SCALE = 0.2


def matmulnbits(bits: int, block: int, codes: NDArray[np.int32], scales: NDArray[np.float32]):
    """Return a session that multiplies by code * scale."""
    zero = 1 << (bits - 1)
    unsigned = (codes + zero).astype(np.uint8)
    if bits == 4:
        unsigned = unsigned[:, 0::2] | (unsigned[:, 1::2] << 4)
    blocks = scales.shape[1]
    packed_zeros = np.full((OUT, -(-blocks * bits // 8)), 0x88 if bits == 4 else 0x80, np.uint8)
    arrays = (unsigned.reshape(OUT, blocks, -1), scales, packed_zeros)
    initializers = [
        onnx_ir.val(name, const_value=onnx_ir.tensor(array, name=name))
        for name, array in zip(("codes", "scales", "zeros"), arrays, strict=True)
    ]
    x = onnx_ir.val("x", onnx_ir.DataType.FLOAT, ["rows", COLUMNS])
    attributes = {"K": COLUMNS, "N": OUT, "bits": bits, "block_size": block, "accuracy_level": 4}
    node = onnx_ir.node(
        "MatMulNBits", [x, *initializers], attributes, domain="com.microsoft", version=1
    )
    y = node.outputs[0]
    y.name, y.dtype, y.shape = "y", onnx_ir.DataType.FLOAT, onnx_ir.Shape(["rows", OUT])
    return session([x], [y], node, initializers)


def session(
    inputs: list[onnx_ir.Value],
    outputs: list[onnx_ir.Value],
    node: onnx_ir.Node,
    initializers: list[onnx_ir.Value],
) -> onnxruntime.InferenceSession:
    """Return a session of one node."""
    opsets = {"": 23, "com.microsoft": 1}
    graph = onnx_ir.Graph(
        inputs, outputs, nodes=[node], initializers=initializers, opset_imports=opsets, name="one"
    )
    proto = onnx_ir.to_proto(onnx_ir.Model(graph, ir_version=10))
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def int8_attention(
    key_scales: NDArray[np.float32], value_scales: NDArray[np.float32]
) -> onnxruntime.InferenceSession:
    """Return a session of GroupQueryAttention over int8 caches, scales [K, D]."""
    scales = [
        onnx_ir.val(name, const_value=onnx_ir.tensor(array[None, :, None, :], name=name))
        for name, array in (("key_scales", key_scales), ("value_scales", value_scales))
    ]
    real, code, count = (getattr(onnx_ir.DataType, name) for name in ("FLOAT", "INT8", "INT32"))
    row = (1, SHARED, SLOTS, SIZE)
    inputs = [
        onnx_ir.val("query", real, [1, "tokens", HEADS * SIZE]),
        *(onnx_ir.val(name, real, [1, "tokens", SHARED * SIZE]) for name in ("key", "value")),
        *(onnx_ir.val(name, code, row) for name in ("past_key", "past_value")),
        onnx_ir.val("last", count, [1]),
        onnx_ir.val("total", count, []),
    ]
    attributes = {
        "num_heads": HEADS,
        "kv_num_heads": SHARED,
        "scale": ATTENTION_SCALE,
        "k_quant_type": "PER_CHANNEL",
        "v_quant_type": "PER_CHANNEL",
        "kv_cache_bit_width": 8,
    }
    node = onnx_ir.node(
        "GroupQueryAttention",
        [*inputs, *([None] * 5), *scales],
        attributes,
        domain="com.microsoft",
        version=1,
        num_outputs=3,
    )
    for output, name, dtype in zip(
        node.outputs, ("out", "k", "v"), (real, code, code), strict=True
    ):
        output.name, output.dtype = name, dtype
    return session(inputs, list(node.outputs), node, scales)


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("block", [32, 64, 128, 256])
@pytest.mark.parametrize("bits", [4, 8])
def test_matmulnbits_rounds_activations_as_the_reference_does(
    bits: int, block: int, rows: int
) -> None:
    generator = np.random.default_rng(bits * block)
    blocks = -(-COLUMNS // block)
    limit = 1 << (bits - 1)
    codes = np.zeros((OUT, blocks * block), np.int32)
    codes[:, :COLUMNS] = generator.integers(1 - limit, limit, (OUT, COLUMNS))
    scales = generator.uniform(0.5, 1.5, (OUT, blocks)).astype(np.float32)
    x = generator.normal(size=(rows, COLUMNS)).astype(np.float32)
    x[:, 3] *= 30  # an outlier channel: the rounding of its block is coarse
    weight = (codes.reshape(OUT, blocks, block) * scales[:, :, None].astype(np.float64)).reshape(
        OUT, -1
    )[:, :COLUMNS]
    rounded = quantize_per_block_symmetric(torch.from_numpy(x), block).numpy().astype(np.float64)
    (found,) = matmulnbits(bits, block, codes, scales).run(None, {"x": x})
    expected = rounded @ weight.T
    # float32 sums; exact activations would be 1e-2 away.
    assert np.abs(found - expected).max() < 3e-6 * np.abs(expected).max()
    assert np.abs(found - x @ weight.T).max() > 1e-3 * np.abs(expected).max()


def test_activation_rounding_keeps_zero_blocks_and_short_last_blocks() -> None:
    x = torch.zeros(2, 40)
    x[0, 36] = 3.0
    assert torch.equal(quantize_per_block_symmetric(x, 32), x)


@pytest.mark.parametrize("tokens", [1, 7])
def test_attention_rounds_and_saturates_a_cache_as_the_reference_does(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    scales = [0.005 + 0.02 * torch.rand(SHARED, SIZE, generator=generator) for _ in range(2)]
    query, key, value = (
        torch.randn(1, tokens, heads, SIZE, generator=generator)
        for heads in (HEADS, SHARED, SHARED)
    )
    key[0, 0, 0] = (torch.arange(SIZE) - 15.5) * scales[0][0]  # between two codes
    key[0, 0, 1], value[0, 0, 1] = 9.0, -9.0  # beyond the largest and the smallest
    empty = np.zeros((1, SHARED, SLOTS, SIZE), np.int8)
    out, *present = int8_attention(*(s.numpy() for s in scales)).run(
        None,
        {
            "query": query.flatten(2).numpy(),
            "key": key.flatten(2).numpy(),
            "value": value.flatten(2).numpy(),
            "past_key": empty,
            "past_value": empty,
            "last": np.array([tokens - 1], np.int32),
            "total": np.array(tokens, np.int32),
        },
    )
    rounded = [
        quantize_per_channel_symmetric(x, s) for x, s in zip((key, value), scales, strict=True)
    ]
    for codes, scale, expected in zip(present, scales, rounded, strict=True):
        held = torch.from_numpy(codes[:, :, :tokens]).transpose(1, 2) * scale
        torch.testing.assert_close(held, expected, rtol=0, atol=0)
    assert present[0][0, 1, 0].tolist() == [127] * SIZE
    assert present[1][0, 1, 0].tolist() == [-128] * SIZE
    positions = torch.arange(tokens)
    mask = visible(positions, positions, None)
    expected = softmax_attention(query, *rounded, mask, ATTENTION_SCALE, None).flatten(2)
    # float32 sums over codes; keys and values that were not rounded would be 1e-2 away.
    torch.testing.assert_close(torch.from_numpy(out), expected, rtol=0, atol=3e-6)
