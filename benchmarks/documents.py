"""The dated JSON document of a benchmark: how it begins, and where it is saved."""

import datetime
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def today() -> str:
    """Return the date in UTC, as in 2026-11-22."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of installed packages."""
    return {name: version(name) for name in packages}


def save(document: Mapping[str, Any], path: Path) -> None:
    """Write a document; the folder is made where it is absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
