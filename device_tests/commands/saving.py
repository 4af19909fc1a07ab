"""Files that commands write after long work: checked before it, and never lost at its end."""

import os
import tempfile
from pathlib import Path

import click

from pocketlm.device_tests.errors import DeviceError


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written; leaves nothing there.

    Raises:
        DeviceError: the folder is missing, or it or the file cannot be written.
    """
    folder = path.resolve().parent
    if not folder.is_dir():
        raise DeviceError(f"{path}: there is no folder {folder}; make it, or name another file")
    if path.is_dir():
        raise DeviceError(f"{path} is a folder; name a file in it")
    try:
        if path.exists():
            with path.open("ab"):
                return
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise DeviceError(
            f"{path}: cannot be written ({os.strerror(error.errno or 0)}); name another file"
        ) from error


def save(text: str, path: Path) -> None:
    """Write a text; where that fails, to a file of its own in the folder for temporary files.

    Raises:
        DeviceError: neither can be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
        return
    except OSError as error:
        failed = error
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="pocketlm-", suffix=f"-{path.name}", delete=False
        ) as file:
            file.write(text)
    except OSError as error:
        raise DeviceError(
            f"{path}: cannot be written ({failed.strerror}), nor can {tempfile.gettempdir()} "
            f"({error.strerror}); free some space and run it again"
        ) from error
    click.echo(f"{path}: cannot be written ({failed.strerror}); it is in {file.name}", err=True)
