"""What the doubles that are one process have in common."""

import subprocess
from contextlib import ExitStack


class OneProcess:
    """A context that ends its process, and removes what was made for it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(self, *ended: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None, "only within the context"
        return self._process.pid

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
