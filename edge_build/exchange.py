"""Two folders change places, on Linux in one step."""

import ctypes
import errno
import os
from pathlib import Path

# renameat2(2): paths are relative to the working folder; RENAME_EXCHANGE.
_AT_FDCWD = -100
_EXCHANGE = 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def exchange(first: Path, second: Path) -> None:
    """Give each of two existing paths of one disk what the other had.

    Where the system cannot do that at once, `second` is absent for a moment between two renames.

    Raises:
        OSError: one is absent, or may not be moved.
    """
    error = _exchanged_at_once(first, second)
    if error in _UNSUPPORTED:
        aside = first.with_name(f"{first.name}.replaced")
        second.rename(aside)
        try:
            first.rename(second)
        except OSError:
            aside.rename(second)
            raise
        aside.rename(first)
    elif error:
        raise OSError(error, os.strerror(error), str(second))


def _exchanged_at_once(first: Path, second: Path) -> int:
    """Return 0, or the number of the error."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return errno.ENOSYS
    paths = os.fsencode(first), os.fsencode(second)
    if library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _EXCHANGE) == 0:
        return 0
    return ctypes.get_errno()
