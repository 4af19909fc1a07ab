"""Documents that a build recorded, read by the format version that they name."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.typed_json import FieldError, load_object, read_as

T = TypeVar("T")

# Older versions that can be read, each with what makes a document of today of one.
Upgrades = Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]


def read_recorded(
    kind: type[T], text: str, format_version: int, what: str, upgrades: Upgrades | None = None
) -> T:
    """Read a document strictly.

    Args:
        format_version: the one that this pocketlm writes.
        what: names the document in messages.
        upgrades: by an older version's number.

    Raises:
        RunError: another format version, or a missing or wrong field.
    """
    try:
        document = load_object(text)
        found = document.get("format_version")
        if upgrades and type(found) is int and found in upgrades:
            document = upgrades[found](document)
        elif found != format_version:
            raise RunError(
                f"{what}: format version {found!r}, this pocketlm reads {format_version}; "
                "update pocketlm, or build the bundle again"
            )
        return read_as(kind, document)
    except FieldError as error:
        raise RunError(f"{what}: {error}; build the bundle again") from error
