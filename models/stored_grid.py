"""The integer grid that a checkpoint stores a weight on, and rows of its codes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StoredGrid:
    """Codes with scales, as a file stores them.

    Attributes:
        bits: 4 or 8, the fewest that hold the codes.
        group_size: input channels that share a scale; None: one scale per output channel.
        has_zero_points: codes that count from zero may leave the range of `bits`: they are stored
            with zero points, or with scales of either sign.
        name: what the file calls it, for messages: "Q4_0 of GGUF".
    """

    bits: int
    group_size: int | None
    has_zero_points: bool
    name: str


@dataclass(frozen=True)
class GridRows:
    """Rows of a weight: weight[o, i] = integers[o, i] * scales[o, i // group_size].

    Attributes:
        integers: [rows, in] int16: codes minus their zero points.
        scales: [rows, groups] float32, of either sign.
    """

    integers: NDArray[np.int16]
    scales: NDArray[np.float32]

    @property
    def group_size(self) -> int:
        return int(self.integers.shape[1] // self.scales.shape[1])

    def dequantized(self) -> NDArray[np.float32]:
        """Return the weights of the rows, [rows, in] float32."""
        rows, groups = self.scales.shape
        values = self.integers.astype(np.float32).reshape(rows, groups, -1)
        values *= self.scales[:, :, None]
        return values.reshape(self.integers.shape)


def unpack_words(words: NDArray[Any], bits: int) -> NDArray[np.int16]:
    """Return the unsigned codes of 32-bit words, the lowest bits first.

    Args:
        words: [..., words] int32.
        bits: of a code: 4 or 8.

    Returns:
        [..., words * 32 / bits] int16.
    """
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    unsigned = np.ascontiguousarray(words).view(np.uint32)[..., None]
    codes = (unsigned >> shifts) & np.uint32((1 << bits) - 1)
    return codes.astype(np.int16).reshape(*words.shape[:-1], -1)
