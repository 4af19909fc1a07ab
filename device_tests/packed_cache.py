"""--packed-cache: packed weights in a file, for the backends whose runners can."""

from collections.abc import Collection

from pocketlm.device_tests.errors import DeviceError
from pocketlm.runtime_py import engines


def require_packed_cache(backends: Collection[str]) -> None:
    """Refuse where none of the backends can keep packed weights in a file.

    Raises:
        DeviceError: names those that can.
    """
    able = engines.packed_cache_names()
    if not set(able) & set(backends):
        raise DeviceError(
            f"--packed-cache: only {' and '.join(able)} keeps packed weights in a file"
        )
