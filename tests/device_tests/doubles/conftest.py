"""The doubles that these tests share."""

from collections.abc import Callable, Iterator

import pytest

from device_tests.doubles.adb_server import AdbServer
from device_tests.doubles.prepare import prepared
from device_tests.doubles.tools import missing_tools
from device_tests.errors import DeviceError


@pytest.fixture(scope="session")
def skip_without() -> Callable[..., None]:
    """What skips a test where a tool, or what `prepare` builds, is missing."""

    def check(*tools: str) -> None:
        if missing := missing_tools(tools):
            pytest.skip(f"needs {', '.join(missing)}; see device_tests/doubles/README.md")
        try:
            prepared()
        except DeviceError as error:
            pytest.skip(str(error))

    return check


@pytest.fixture(scope="session")
def adb() -> Iterator[AdbServer]:
    """A server of the tests' own."""
    if missing := missing_tools(("adb", "setpriv")):
        pytest.skip(f"needs {', '.join(missing)}; see device_tests/doubles/README.md")
    with AdbServer() as server:
        yield server
