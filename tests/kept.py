"""What tests make by lowering and only look at: made once for all runs of this program."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from pocketlm.edge_build.lowered_cache import user_lowered_cache
from pocketlm.edge_build.lowering_key import key_with_tools
from pocketlm.runtime_py.user_cache import kept
from tests.conftest import TEST_CACHE

_HELPERS = sorted(Path(__file__).parent.glob("*.py"))


def kept_bytes(test_file: str, name: str, make: Callable[[], bytes]) -> bytes:
    """Return what `make` makes, or made in an earlier run of this program, its tools and tests.

    Args:
        test_file: `__file__` of the tests that ask.
        name: what they make, one of that file's.
    """
    return user_lowered_cache().get(_key(test_file, name), make)


def kept_folder(test_file: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` fills, likewise."""
    return kept(TEST_CACHE / "bundles" / _key(test_file, name), make)


def _key(test_file: str, name: str) -> str:
    tests = hashlib.sha256()
    for path in (*_HELPERS, Path(test_file)):
        tests.update(path.read_bytes())
    return key_with_tools({"tests": tests.hexdigest(), "made by a test": name})
