"""Re-blocking: codes stay, scales repeat, rows are padded at the zero point."""

import numpy as np
import pytest

from pocketlm.edge_build.backends.onnx.blocks import BlockedWeight
from pocketlm.edge_build.quantization.activations import activation_block
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.weight import QuantizedWeight
from pocketlm.runtime_py.int4_packing import pack_int4


def blocked(bits: int, group_size: int | None, columns: int) -> BlockedWeight:
    generator = np.random.default_rng(0)
    scheme = QuantScheme(bits, group_size)
    limit = 1 << (bits - 1)
    codes = generator.integers(1 - limit, limit, (6, columns)).astype(np.int8)
    scales = generator.uniform(0.5, 1.5, (6, scheme.groups(columns))).astype(np.float32)
    return BlockedWeight(QuantizedWeight(pack_int4(codes) if bits == 4 else codes, scales, scheme))


def restored(weight: BlockedWeight) -> np.ndarray:
    codes = np.concatenate(list(weight.code_pieces()))
    if weight.bits == 4:
        codes = np.stack((codes & 15, codes >> 4), axis=-1).reshape(len(codes), -1)
    values = codes.astype(np.float32) - (1 << (weight.bits - 1))
    scales = np.concatenate(list(weight.scale_pieces()))
    grouped: np.ndarray = values.reshape(len(codes), weight.blocks, -1) * scales[:, :, None]
    return grouped.reshape(len(codes), -1)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("group_size", "columns", "block"),
    [(32, 96, 32), (96, 192, 32), (512, 1024, 256), (None, 256, 128), (None, 160, 128)],
)
def test_blocks_hold_the_same_weights(
    bits: int, group_size: int | None, columns: int, block: int
) -> None:
    weight = blocked(bits, group_size, columns)
    assert weight.block == block == activation_block(weight.weight.scheme)
    found = restored(weight)
    assert np.array_equal(found[:, :columns], weight.weight.dequantized())
    assert not found[:, columns:].any()


def test_int4_codes_are_the_stores_own_bytes() -> None:
    weight = blocked(4, 32, 96)
    (piece,) = weight.code_pieces()
    assert piece.tobytes() == weight.weight.packed.tobytes()
