"""What calibration measures, and the store that holds it on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

# Of the inputs of a linear layer, or of keys and values.
InputStatistic = Literal["maxima", "moments"]
Statistic = Literal["maxima", "moments", "kv_bounds"]
INPUT_STATISTICS: tuple[InputStatistic, ...] = get_args(InputStatistic)


@dataclass(frozen=True)
class InputStatistics:
    """Of a linear layer's inputs x, over every token of the calibration text; None: not measured.

    Attributes:
        maxima: [in] float32, the largest |x| of each channel.
        moments: [in, in] float32, the sum of x xᵀ.
    """

    maxima: NDArray[np.float32] | None = None
    moments: NDArray[np.float32] | None = None


NO_INPUT_STATISTICS = InputStatistics()


@dataclass(frozen=True)
class KvBounds:
    """The largest magnitude of each channel of keys and values.

    Attributes:
        keys: of each cache, [K, D] float32, wherever a key is rotated to.
        values: likewise.
    """

    keys: tuple[NDArray[np.float32], ...]
    values: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class CalibrationStore:
    """What was measured, in a folder, memory-mapped.

    Attributes:
        statistics: what was asked for.
    """

    folder: Path
    statistics: Sequence[Statistic]

    def inputs(self, name: str) -> InputStatistics:
        """Return the statistics of one weight's inputs; a tied table's are those of the head.

        A table that is only gathered from has none.
        """
        kept = (k for k in INPUT_STATISTICS if (self.folder / f"{name}.{k}.npy").exists())
        return InputStatistics(**{kind: self._map(f"{name}.{kind}") for kind in kept})

    def write_inputs(self, name: str, inputs: InputStatistics) -> None:
        """Keep the statistics of one weight's inputs."""
        for kind in INPUT_STATISTICS:
            if kind in self:
                np.save(self.folder / f"{name}.{kind}.npy", getattr(inputs, kind))

    def kv_bounds(self) -> KvBounds:
        """Return the bounds of keys and values."""
        count = len([*self.folder.glob("cache.*.keys.npy")])
        keys, values = (
            tuple(self._map(f"cache.{cache}.{kind}") for cache in range(count))
            for kind in ("keys", "values")
        )
        return KvBounds(keys, values)

    def write_kv_bounds(self, bounds: KvBounds) -> None:
        """Keep the bounds of keys and values."""
        for kind, caches in (("keys", bounds.keys), ("values", bounds.values)):
            for cache, found in enumerate(caches):
                np.save(self.folder / f"cache.{cache}.{kind}.npy", found)

    def __contains__(self, statistic: Statistic) -> bool:
        return statistic in self.statistics

    def _map(self, stem: str) -> NDArray[np.float32]:
        loaded: NDArray[np.float32] = np.load(self.folder / f"{stem}.npy", mmap_mode="r")
        return loaded
