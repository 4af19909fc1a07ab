"""KvScales: one constant scale for each channel of keys and values, from what calibration saw.

docs/numerics.md gives the reason for the bound of rotated keys and for the headroom.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketlm.edge_build.calibration.measured import KvBounds

LARGEST_CODE = 127
# The scales cover values this much larger than the largest one seen; larger ones saturate.
HEADROOM = 1.5
# For a channel that is always zero.
_SMALLEST_BOUND = 1e-6


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


def scales_of(bounds: KvBounds) -> KvScales:
    """Return the scales that hold every key, at whatever position, and every value."""
    return KvScales(_scales(bounds.keys), _scales(bounds.values))


def _scales(bounds: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(bounds, np.float32(_SMALLEST_BOUND)) * np.float32(HEADROOM / LARGEST_CODE)
