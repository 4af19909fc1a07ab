"""Files of a folder with their sizes and digests."""

import hashlib
from pathlib import Path

from pocketlm.runtime_py.manifest import FileEntry


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """Return every file below `folder`, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        FileEntry(path.relative_to(folder).as_posix(), sha256_of(path), path.stat().st_size)
        for path in files
    )


def sha256_of(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
