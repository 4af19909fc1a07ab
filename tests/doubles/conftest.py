"""The doubles that these tests share."""

from collections.abc import Callable, Iterator

import pytest

from tests.device_tests import doubled_devices
from tests.doubles.adb_server import AdbServer
from tests.doubles.tools import advice, missing_tools


@pytest.fixture(scope="session")
def skip_without() -> Callable[..., None]:
    """What skips a test where a tool, or what `prepare` builds, is missing."""
    return doubled_devices.skip_without


@pytest.fixture(scope="session")
def adb() -> Iterator[AdbServer]:
    """A server of the tests' own."""
    if missing := missing_tools(("adb", "setpriv")):
        pytest.skip(advice(missing))
    with AdbServer() as server:
        yield server
