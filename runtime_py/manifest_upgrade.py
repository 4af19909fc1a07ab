"""Documents of bundle format 1 → format 2, so that one module alone knows the older format."""

from collections.abc import Mapping
from typing import Any


def upgrade_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of format 2 that says what a document of format 1 says.

    It may be a part of a manifest, as golden/settings.json records. What is not as format 1 has it
    stays, so that the reader of format 2 names it.
    """
    return {**document, "format_version": 2}
