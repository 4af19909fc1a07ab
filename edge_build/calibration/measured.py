"""What calibration measures, and the store that holds it on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

# Of the inputs of a linear layer, or of keys and values.
InputStatistic = Literal["maxima", "squares", "moments", "cross_moments"]
Statistic = Literal["maxima", "squares", "moments", "cross_moments", "kv_bounds"]
INPUT_STATISTICS: tuple[InputStatistic, ...] = get_args(InputStatistic)

Sequences = tuple[tuple[int, ...], ...]
_TOKENS_NAME = "tokens.json"


@dataclass(frozen=True)
class InputStatistics:
    """Of a linear layer's inputs x, over every token of the calibration text; None: not measured.

    Attributes:
        maxima: [in] float32, the largest |x| of each channel.
        squares: [in] float32, the sum of x² of each channel.
        moments: [in, in] float32, the sum of x xᵀ.
        cross_moments: [in, in] float32, the sum of f xᵀ: f is what the float model has in place of
            x, which comes from layers that are quantized already.
    """

    maxima: NDArray[np.float32] | None = None
    squares: NDArray[np.float32] | None = None
    moments: NDArray[np.float32] | None = None
    cross_moments: NDArray[np.float32] | None = None


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

    @property
    def sequences(self) -> Sequences:
        """The calibration text as tokens, each sequence by itself."""
        document = json.loads((self.folder / _TOKENS_NAME).read_text(encoding="ascii"))
        return tuple(map(tuple, document))

    def write_sequences(self, sequences: Sequences) -> None:
        """Keep the calibration text."""
        (self.folder / _TOKENS_NAME).write_text(json.dumps(sequences), encoding="ascii")

    def inputs(self, name: str) -> InputStatistics:
        """Return the statistics of one weight's inputs, if they were measured."""
        kept = (k for k in INPUT_STATISTICS if (self.folder / f"{name}.{k}.npy").exists())
        return InputStatistics(**{kind: self._map(f"{name}.{kind}") for kind in kept})

    def write_inputs(self, name: str, inputs: InputStatistics) -> None:
        """Keep the statistics of one weight's inputs."""
        for kind in INPUT_STATISTICS:
            found = getattr(inputs, kind)
            if found is not None:
                np.save(self.folder / f"{name}.{kind}.npy", found)

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
