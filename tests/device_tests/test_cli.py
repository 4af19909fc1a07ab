"""How errors of devices become exit codes."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pocketlm import main
from pocketlm.device_tests.device.target import LostDeviceError, RefusedError
from pocketlm.device_tests.errors import DeviceError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DeviceError("there are two"), 2),
        (LostDeviceError("it went away"), 3),
        (RefusedError("it asks first", "unauthorized"), 3),
        (RefusedError("it is full", "no_space"), 3),
    ],
)
@pytest.mark.parametrize("command", ["push", "profile"])
def test_a_device_that_fails_is_told_from_a_mistake(
    command: str,
    error: DeviceError,
    expected: int,
    pico_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def open_target(name: str) -> None:
        raise error

    monkeypatch.setattr("pocketlm.device_tests.device.targets.open_target", open_target)
    result = CliRunner().invoke(main, [command, str(pico_bundle), "--on", "adb"])
    assert result.exit_code == expected
    assert result.stderr.splitlines()[-1] == f"error: {error}"
    assert "Traceback" not in result.output
