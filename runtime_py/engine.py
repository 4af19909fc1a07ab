"""What an engine must offer: one artifact, loaded, that turns tokens into logits.

`runtime_py/engines/NAME/engine.py` runs the artifacts of backend NAME and offers one constant,
ENGINE.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pocketlm.runtime_py.manifest import BackendEntry, Manifest


class LoadedModel(Protocol):
    """An artifact in memory with its caches. It does not know what a session is."""

    def run(self, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Process tokens that stand at `position` and after, writing the caches.

        Args:
            tokens: at most the manifest's prefill_chunk.
            position: tokens before these; the caller keeps position + len(tokens) within the
                context length.

        Returns:
            Logits [rows, V], columns of padding cut off; the caller owns them. A call of at most
            the entry's logits_rows tokens has a row after each, a longer one after its last
            tokens, one or more.
        """
        ...

    def reset(self) -> None:
        """Forget every position."""
        ...

    def clear(self) -> None:
        """Make every slot of every cache zero, as a runtime first gets it.

        A `reset` leaves old keys in slots that no later query sees. What starts behind position 0
        does see them. May take as long as loading.
        """
        ...

    def close(self) -> None:
        """Release the runtime's memory."""
        ...


Load = Callable[[Path, Manifest, BackendEntry, int | None], LoadedModel]


@dataclass(frozen=True)
class ExactForm:
    """The way to run an artifact without rounded activations: its own codes and scales, products in
    float32, everything else of the program untouched. Keys and values are rounded as ever.

    Attributes:
        load: as an engine's; what it writes on disk is gone when the model is closed.
        extra_bytes: (manifest, entry) → memory that it takes beyond the ordinary form's, about.
    """

    load: Load
    extra_bytes: Callable[[Manifest, BackendEntry], int]


# Yields (name, what the manifest says, what the artifact says) of each difference.
Differences = Callable[[Path, Manifest, BackendEntry], Iterator[tuple[str, str, str]]]


@dataclass(frozen=True)
class Engine:
    """One backend's way to run.

    Attributes:
        distributions: Python distributions whose versions the manifest's floors are held against.
        load: (folder, manifest, entry, threads) → LoadedModel. `threads` None is the physical
            cores. Imports its runtime inside, never at module level.
        exact: how to run the same without rounded activations; None if there is no way.
        metadata_differences: where an artifact tells stock runners other settings than the
            manifest has; None if it tells them none.
        rank: where the user names no backend, the installed one of the lowest rank runs.
        packed_cache: whether its runner can keep packed weights in a file that the next run maps.
    """

    name: str
    distributions: tuple[str, ...]
    load: Load
    exact: ExactForm | None = None
    metadata_differences: Differences | None = None
    rank: int = 9
    packed_cache: bool = False
