"""Trying again while a device is lost."""

import pytest

from pocketlm.device_tests.device.retry import retry
from pocketlm.device_tests.device.target import LostDeviceError, RefusedError


class Failing:
    """Fails some times, then gives its number of calls."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return self.calls


def test_goes_on_when_the_device_is_back() -> None:
    assert retry(Failing(2, LostDeviceError("gone")), reconnect_s=30) == 3


def test_gives_up_when_the_time_is_over() -> None:
    action = Failing(1000, LostDeviceError("gone"))
    with pytest.raises(LostDeviceError, match="gone"):
        retry(action, reconnect_s=0.5)
    assert 1 < action.calls < 5


def test_no_time_is_no_second_try() -> None:
    action = Failing(1, LostDeviceError("gone"))
    with pytest.raises(LostDeviceError):
        retry(action, reconnect_s=0)
    assert action.calls == 1


def test_a_refusal_is_final() -> None:
    action = Failing(1, RefusedError("no", "permission"))
    with pytest.raises(RefusedError):
        retry(action, reconnect_s=30)
    assert action.calls == 1
