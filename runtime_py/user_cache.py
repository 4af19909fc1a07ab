"""Where things lie that are made once and used again."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder, which may not exist yet: $POCKETLM_CACHE, else the user's cache."""
    asked = os.environ.get("POCKETLM_CACHE")
    if asked:
        return Path(asked).absolute()
    user = os.environ.get("XDG_CACHE_HOME")
    return (Path(user) if user else Path.home() / ".cache") / "pocketlm"


def lowered_folder() -> Path:
    """Return where lowered programs are kept: $POCKETLM_LOWERED_CACHE, else in the cache."""
    asked = os.environ.get("POCKETLM_LOWERED_CACHE")
    return Path(asked).absolute() if asked else cache_folder() / "lowered"


def kept(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`; where it does not exist, let `make` fill one that then takes its name.

    So there is a whole one or none. A second process waits for the first one's.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            make(unfinished)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder
