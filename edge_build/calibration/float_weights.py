"""A checkpoint's own weights, as the eager model reads them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketlm.edge_build.quantization.finite import finite
from pocketlm.edge_build.quantization.weight import head_name
from pocketlm.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class FloatWeights:
    """Rows are read from the checkpoint when they are asked for; nothing is kept.

    Raises:
        BuildError: from whatever reads a weight that is not finite.
    """

    checkpoint: Checkpoint

    def head_name(self) -> str:
        """Return the weight that makes the logits: the head, or the tied embedding."""
        return head_name(self.checkpoint.names())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape, [out, in] or [size]."""
        return self.checkpoint.shape(name)

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows start..stop in float32."""
        stop = min(stop, self.shape(name)[0])
        values: NDArray[np.float32] = finite(
            name, self.checkpoint.read_rows(name, start, stop)
        ).numpy()
        return values

    def floating(self, name: str) -> NDArray[np.float32]:
        """Return a whole weight, [out, in] or [size]."""
        return self.rows(name, 0, self.shape(name)[0])
