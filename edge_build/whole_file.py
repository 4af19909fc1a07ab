"""A text file that is there whole or not at all."""

from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file beside `path` and put it there when it is complete.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    written = path.with_name(f".{path.name}.writing")
    try:
        written.write_text(text, encoding="utf-8")
        written.replace(path)
    except OSError:
        with suppress(OSError):
            written.unlink(missing_ok=True)
        raise
