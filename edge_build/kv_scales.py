"""KvScales: one constant scale for each channel of keys and values. Knows no model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_CODE = 127


@dataclass(frozen=True)
class KvScales:
    """value = code * scale, code from -128 to 127.

    Attributes:
        keys, values: [layers, K, D] float32, positive; those of keys after rotation.
    """

    keys: NDArray[np.float32]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        for scales in (self.keys, self.values):
            assert scales.ndim == 3 and scales.dtype == np.float32, "not [layers, K, D] float32"
            assert (scales > 0).all() and np.isfinite(scales).all(), "scales must be positive"
