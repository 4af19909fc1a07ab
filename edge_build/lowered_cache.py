"""Lowered programs that later builds use again, in the user's cache.

Each is one file, named by the digest of what determines it: the digest of its content, then the
content. It is written under another name first, so that there is a whole one or none.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pocketlm.edge_build.byte_sizes import shown_size
from pocketlm.runtime_py.user_cache import lowered_folder

_LOG = logging.getLogger("pocketlm.lowered_cache")

# A template takes 0.1 to 0.3 MB.
LIMIT_BYTES = 1 << 28

_ENDING = ".lowered"
_DIGEST_BYTES = hashlib.sha256().digest_size


def ignore_notice(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class LoweredCache:
    """Programs by key.

    Attributes:
        folder: may not exist yet; None keeps nothing.
        limit_bytes: of all together; what was used longest ago makes room.
        notify: called with what the user should know.
    """

    folder: Path | None
    limit_bytes: int = LIMIT_BYTES
    notify: Callable[[str], None] = ignore_notice

    def get(self, key: str, lower: Callable[[], bytes]) -> bytes:
        """Return what is kept under a key; if nothing is, what `lower` makes, which is kept.

        A second process that wants the same waits for the first one's. A cache that cannot be
        read or written never fails a build.
        """
        if self.folder is None:
            return lower()
        path = self.folder / f"{key}{_ENDING}"
        with _locked(self.folder, key):
            found = self._read(path)
            if found is not None:
                _LOG.info("%s: lowered by an earlier build", path.name)
            else:
                found = lower()
                self._write(path, found)
        return found

    def _read(self, path: Path) -> bytes | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.notify(f"{path}: cannot be read ({error.strerror}); lowering again")
            return None
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            self.notify(f"{path}: the lowered program in the cache is damaged; lowering again")
            return None
        with suppress(OSError):
            os.utime(path)
        return content

    def _write(self, path: Path, content: bytes) -> None:
        written = path.with_suffix(f".{os.getpid()}.writing")
        try:
            written.write_bytes(hashlib.sha256(content).digest() + content)
            written.replace(path)
            self._make_room(path)
        except OSError as error:
            with suppress(OSError):
                written.unlink(missing_ok=True)
            self.notify(
                f"{path.parent}: the lowered program ({shown_size(len(content))}) cannot be kept "
                f"there ({error.strerror}); the next build of these shapes lowers again"
            )

    def _make_room(self, newest: Path) -> None:
        """Remove what was used longest ago until the rest is within the limit."""
        held = sorted(_entries(newest.parent), key=lambda entry: entry[1].st_mtime_ns)
        total = sum(entry[1].st_size for entry in held)
        for path, status in held:
            if total <= self.limit_bytes or path == newest:
                break
            path.unlink(missing_ok=True)
            total -= status.st_size


NO_CACHE = LoweredCache(None)


def user_lowered_cache(notify: Callable[[str], None] = ignore_notice) -> LoweredCache:
    """Return the lowered programs of this user."""
    return LoweredCache(lowered_folder(), notify=notify)


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        # Another process may remove one meanwhile.
        with suppress(FileNotFoundError):
            if path.suffix in (_ENDING, ".writing"):
                yield path, path.stat()


@contextmanager
def _locked(folder: Path, key: str) -> Iterator[None]:
    """Hold a key, where the disk has locks; some keys share one, so that few files remain."""
    descriptor = None
    with suppress(OSError):
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "locks" / key[:2], os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
