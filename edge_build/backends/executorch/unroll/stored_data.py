"""Data of a program's file that is made when it is written."""

from collections.abc import Callable
from io import BufferedIOBase
from typing import Any

from executorch.exir._serialize._cord import FileBackedData

from pocketlm.edge_build.backends.executorch.unroll.constants import digest


class StoredData(FileBackedData):
    """Data that is made when it is written: memory follows one tensor."""

    def __init__(self, size: int, produce: Callable[[], bytes]) -> None:
        self._size, self._produce = size, produce

    def __deepcopy__(self, memo: dict[int, Any]) -> "StoredData":
        return self

    def prefix(self, size: int) -> bytes:
        return self._produce()[:size]

    def sha256(self) -> bytes:
        return bytes.fromhex(digest(self._produce()))

    def to_bytes(self) -> bytes:
        return self._produce()

    def write_to_file(self, outfile: BufferedIOBase) -> None:
        outfile.write(self._produce())

    def close(self) -> None:
        """Nothing is open."""
