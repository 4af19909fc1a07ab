"""Reads the checkpoint's text and JSON files and single values of them; refuses what is broken."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketlm.edge_build.errors import BuildError


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        BuildError: it is not UTF-8 or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from error
    except OSError as error:
        raise BuildError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; empty if there is no such file.

    Raises:
        BuildError: it is no JSON object.
    """
    if not path.exists():
        return {}
    text = read_text(path)
    try:
        document = json.loads(text)
        _refuse_halves(document, text)
    except (ValueError, RecursionError) as error:
        raise BuildError(
            f"{path}: cannot be read as JSON: {error}; copy it again from where the checkpoint "
            "was published"
        ) from error
    if not isinstance(document, dict):
        raise BuildError(
            f"{path}: holds {_kind(document)}, not an object; copy it again from where the "
            "checkpoint was published"
        )
    return document


def token_id(document: Mapping[str, Any], key: str, file: str) -> int | None:
    """Return one token id of a config; None if it names none. Some write -1 for none.

    Raises:
        BuildError: the value is no id.
    """
    value = document.get(key)
    if value is None or (type(value) is int and value < 0):
        return None
    if type(value) is not int:
        raise BuildError(f"{file}: {key} is {short(value)}; must be a token id, 0 or more, or null")
    return value


def short(value: object) -> str:
    """Return a JSON value as a message shows it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_halves(document: object, text: str) -> None:
    """Raise ValueError if a string holds half of a surrogate pair, which no file can hold."""
    if "\\ud" not in text.lower():
        return
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise ValueError(f"{half} is half of a character") from error


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else short(value)
