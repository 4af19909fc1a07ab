"""Measures of passages on disk, so that an evaluation that was killed goes on, and is not repeated.

One file a passage, written under another name first: there is a whole one or none.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketlm.evaluation.passages import Passage
from pocketlm.runtime_py.user_cache import cache_folder

_LOG = logging.getLogger("pocketlm.evaluation")

# What is measured, and how: another number starts over.
_FORMAT = 1
# A folder is 32 bytes a token.
_MOST_KEPT = 200
_COLUMNS = 4


@dataclass(frozen=True)
class KeptPassages:
    """The measures of one evaluation, by number of passage."""

    folder: Path

    def read(self, number: int, tokens: int) -> NDArray[np.float64] | None:
        """Return the columns of a passage, [4, tokens]; None if they are not there."""
        try:
            found: NDArray[np.float64] = np.load(self._path(number), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return found if found.shape == (_COLUMNS, tokens) else None

    def write(self, number: int, columns: NDArray[np.float64]) -> None:
        """Keep the columns of a passage; where that fails, an evaluation goes on without."""
        written = self.folder / f"{number}.{os.getpid()}.writing"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with written.open("wb") as file:
                np.save(file, columns)
            written.replace(self._path(number))
        except OSError as error:
            with suppress(OSError):
                written.unlink(missing_ok=True)
            _LOG.warning(
                "%s: what is measured cannot be kept (%s); if this run is interrupted, the next "
                "one measures again",
                self.folder,
                error.strerror,
            )

    def clear(self) -> None:
        """Remove what is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.npy"


def kept_passages(digests: Sequence[str | None], passages: Sequence[Passage]) -> KeptPassages:
    """Return what is kept of an evaluation, in the user's cache; makes room for it.

    Args:
        digests: of the subject and of what it is compared with.
    """
    determining = [_FORMAT, *digests, [asdict(passage) for passage in passages]]
    key = hashlib.sha256(json.dumps(determining).encode()).hexdigest()
    home = cache_folder() / "evaluations"
    with suppress(OSError):
        by_age = sorted(home.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in by_age[:-_MOST_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return KeptPassages(home / key)
