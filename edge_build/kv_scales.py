"""KvScales: one constant scale for each channel of keys and values, from what calibration saw.

docs/numerics.md gives the reason for the bound of rotated keys and for the headroom.
"""

from collections.abc import Sequence
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
        keys, values: of each cache, [K, D] float32, positive; those of keys after rotation.
    """

    keys: tuple[NDArray[np.float32], ...]
    values: tuple[NDArray[np.float32], ...]

    def __post_init__(self) -> None:
        for scales in (*self.keys, *self.values):
            assert scales.ndim == 2 and scales.dtype == np.float32, "not [K, D] float32"
            assert (scales > 0).all() and np.isfinite(scales).all(), "scales must be positive"


def scales_of(bounds: KvBounds) -> KvScales:
    """Return the scales that hold every key, at whatever position, and every value."""
    return KvScales(_scales(bounds.keys), _scales(bounds.values))


def _scales(bounds: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
    least, step = np.float32(_SMALLEST_BOUND), np.float32(HEADROOM / LARGEST_CODE)
    return tuple(np.maximum(bound, least) * step for bound in bounds)
