"""Ctrl-C as a question that is asked between steps."""

import signal
import threading
from types import FrameType
from typing import Self


class Interruption:
    """While entered, the first Ctrl-C is only noted and the second one raises.

    A KeyboardInterrupt out of the middle of a model's step would leave its caches in doubt, and a
    chat would have to process its whole history again.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        # Only the main thread may set handlers; elsewhere Ctrl-C does not arrive anyway.
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *ended: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
