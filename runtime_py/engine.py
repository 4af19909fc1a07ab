"""What an engine must offer: one artifact, loaded, that turns tokens into logits.

`runtime_py/engines/NAME.py` runs the artifacts of backend NAME and offers one constant, ENGINE.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime_py.manifest import BackendEntry, Manifest


class LoadedModel(Protocol):
    """An artifact in memory with its caches. It does not know what a session is."""

    def run(self, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Process tokens that stand at `position` and after, writing the caches.

        Args:
            tokens: at most the manifest's prefill_chunk.
            position: tokens before these; the caller keeps position + len(tokens) within the
                context length.

        Returns:
            Logits after the last token, [V], columns of padding cut off; the caller owns them.
        """
        ...

    def reset(self) -> None:
        """Forget every position."""
        ...

    def rewind_error(self, length: int, target: int) -> str | None:
        """Say why the caches cannot go from `length` tokens back to `target`; None if they can.

        Args:
            length: the most tokens they held since the last reset: what was overwritten on the
                way there stays lost, even after an earlier rewind.
        """
        ...

    def close(self) -> None:
        """Release the runtime's memory."""
        ...


@dataclass(frozen=True)
class Engine:
    """One backend's way to run.

    Attributes:
        distributions: Python distributions whose versions the manifest's floors are held against.
        load: (folder, manifest, entry, threads) → LoadedModel. `threads` None is the physical
            cores. Imports its runtime inside, never at module level.
    """

    name: str
    distributions: tuple[str, ...]
    load: Callable[[Path, Manifest, BackendEntry, int | None], LoadedModel]
