"""The folders that a build works in: the bundle to be, and weights that only the build needs.

A bundle exists whole or not at all, also after Ctrl-C or a full disk.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_build.errors import BuildError
from models.new_folder import new_folder


@dataclass(frozen=True)
class Staging:
    """Where one build writes: `bundle` becomes the output, `weights` is removed."""

    bundle: Path
    weights: Path


@contextmanager
def staging(out: Path, needed_bytes: int) -> Iterator[Staging]:
    """Make the working folders beside `out`; on success the bundle becomes `out`.

    Raises:
        ModelError, BuildError: `out` exists or cannot be written, or the disk is too small.
    """
    with new_folder(out) as bundle:
        parent = bundle.parent
        _require_space(parent, needed_bytes)
        with TemporaryDirectory(prefix=f".{out.name}.weights-", dir=parent) as weights:
            yield Staging(bundle, Path(weights))


def refuse_existing(out: Path) -> None:
    """Raise BuildError if there is anything at `out`."""
    if out.exists() or out.is_symlink():
        raise BuildError(f"--out {out}: exists already; remove it or choose another folder")


def _require_space(parent: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        raise BuildError(
            f"--out below {parent}: the build needs about {needed_bytes / 1e9:.1f} GB there and "
            f"{free / 1e9:.1f} GB are free; make room or choose another disk"
        )
