"""Single operators of the runtime against what the build assumes of them."""

import numpy as np
import onnx_ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from edge_build.quantization.activations import quantize_per_block_symmetric

OUT, COLUMNS = 24, 320


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
    opsets = {"": 23, "com.microsoft": 1}
    graph = onnx_ir.Graph(
        [x], [y], nodes=[node], initializers=initializers, opset_imports=opsets, name="one"
    )
    proto = onnx_ir.to_proto(onnx_ir.Model(graph, ir_version=10))
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


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
