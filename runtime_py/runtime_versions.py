"""Which runtimes are installed, held against what a bundle needs. Imports none of them."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from packaging.version import InvalidVersion, Version

from pocketlm.runtime_py.engine import Engine
from pocketlm.runtime_py.errors import RunError


def is_installed(engine: Engine) -> bool:
    """Say whether every distribution of an engine is there, in any version."""
    return all(_found_version(name) is not None for name in engine.distributions)


def check_versions(engine: Engine, floors: Mapping[str, str]) -> None:
    """Hold installed distributions against a bundle's floors.

    Raises:
        RunError: one is missing or too old; says what to install.
    """
    for name in (*engine.distributions, *(n for n in floors if n not in engine.distributions)):
        floor = floors.get(name)
        wanted = f"{name}>={floor}" if floor else name
        found = _found_version(name)
        if found is None:
            raise RunError(
                f"backend {engine.name}: the bundle needs {wanted}, {name} is not installed; "
                f"pip install '{wanted}'"
            )
        if floor is not None and _parsed(name, found) < _parsed(name, floor):
            raise RunError(
                f"backend {engine.name}: the bundle needs {wanted}, found {name} {found}, which "
                f"lacks operators that it uses; pip install '{wanted}'"
            )


def _found_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _parsed(name: str, text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        raise RunError(
            f"{name}: {text!r} is not a version number; install a release of {name}, or build "
            "the bundle again if its manifest says so"
        ) from error
