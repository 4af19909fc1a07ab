"""A folder that appears whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketlm.models.errors import ModelError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary sibling of `out` to write to, renamed to `out` at the end.

    Whatever interrupts the writing leaves nothing behind.

    Raises:
        ModelError: `out` exists, cannot be made, or the disk is full.
    """
    if out.exists() or out.is_symlink():
        raise ModelError(f"{out}: exists already; give a new folder, or remove this one first")
    made = [parent for parent in out.absolute().parents if not parent.exists()]
    temporary = out.absolute().with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        try:
            temporary.mkdir(parents=True)
            yield temporary
            temporary.rename(out)
        except OSError as error:
            raise _in_words(out, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def _in_words(out: Path, error: OSError) -> ModelError:
    if error.errno == errno.ENOSPC:
        return ModelError(
            f"{out}: the disk is full; free some space or give a folder on another disk"
        )
    return ModelError(f"{out}: cannot be written ({error.strerror}); give another folder")
