"""The 4-bit byte layout of weights in stores and artifacts: its definition, pack and unpack.

Column 2j goes to the low four bits of byte j, column 2j + 1 to the high four, each as code + 8.
ONNX Runtime's MatMulNBits and XNNPACK's weights use this order as well.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# For each byte its two codes as float32, seen as one 8-byte number: one look-up unpacks a pair.
_FLOAT_PAIRS = (
    np.stack((np.arange(256) & 15, np.arange(256) >> 4), axis=1).astype(np.float32) - np.float32(8)
).view(np.uint64)[:, 0]


def pack_int4(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack signed 4-bit codes two to a byte.

    Args:
        codes: [out, in] int8, each in -8..7; `in` is even.

    Returns:
        [out, in / 2] uint8.
    """
    assert codes.shape[1] % 2 == 0, f"{codes.shape[1]} columns cannot be packed in pairs"
    unsigned = (codes + np.int8(8)).view(np.uint8)
    assert int(unsigned.max(initial=0)) < 16, "a code is outside -8..7"
    # A pair is one number, 256 times its second code and its first: whole rows at a time.
    pairs = unsigned.view("<u2")
    return (pairs | (pairs >> 4)).astype(np.uint8)


def unpack_int4(packed: NDArray[Any]) -> NDArray[np.int8]:
    """Return the signed codes [out, in] int8 of [out, in / 2] uint8."""
    codes = np.empty((packed.shape[0], packed.shape[1] * 2), dtype=np.int8)
    np.bitwise_and(packed, 15, out=codes[:, 0::2].view(np.uint8))
    np.right_shift(packed, 4, out=codes[:, 1::2].view(np.uint8))
    codes -= np.int8(8)
    return codes


def unpack_int4_as_float(packed: NDArray[Any]) -> NDArray[np.float32]:
    """Return the codes [out, in] float32 of [out, in / 2] uint8, several times faster."""
    return _FLOAT_PAIRS[packed].view(np.float32)
