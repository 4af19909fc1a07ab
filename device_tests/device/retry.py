"""Tries again while a device is lost, until the connection is back or the time is up."""

import time
from collections.abc import Callable
from typing import TypeVar

from pocketlm.device_tests.device.target import LostDeviceError

T = TypeVar("T")

_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 2.0


def retry(action: Callable[[], T], reconnect_s: float) -> T:
    """Do something, again and again while the device is lost.

    Args:
        action: may be done twice: where a connection breaks, whether it was done is not known.
        reconnect_s: after the first failure; with 0 there is no second try.

    Raises:
        LostDeviceError: the time is up.
    """
    deadline, wait_s = None, _FIRST_WAIT_S
    while True:
        try:
            return action()
        except LostDeviceError:
            now = time.monotonic()
            deadline = now + reconnect_s if deadline is None else deadline
            if now + wait_s > deadline:
                raise
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
