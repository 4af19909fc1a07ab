"""The 4-bit byte layout of the weight store: its definition, pack and unpack.

Column 2j goes to the low four bits of byte j, column 2j + 1 to the high four, each as code + 8.
ONNX Runtime's MatMulNBits and XNNPACK's weights use this order as well.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    return unsigned[:, 0::2] | (unsigned[:, 1::2] << np.uint8(4))


def unpack_int4(packed: NDArray[Any]) -> NDArray[np.int8]:
    """Return the signed codes [out, in] int8 of [out, in / 2] uint8."""
    codes = np.empty((packed.shape[0], packed.shape[1] * 2), dtype=np.int8)
    np.bitwise_and(packed, 15, out=codes[:, 0::2].view(np.uint8))
    np.right_shift(packed, 4, out=codes[:, 1::2].view(np.uint8))
    codes -= np.int8(8)
    return codes
