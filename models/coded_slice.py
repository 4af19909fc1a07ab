"""A weight that a file stores as codes with scales: rows in float32, and the codes themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pocketlm.models.stored_grid import GridRows, StoredGrid


class CodedWeight(Protocol):
    """What reads one weight of a format; see `models/formats`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[out, in]."""
        ...

    @property
    def dtype(self) -> str:
        """What the file calls the codes, for digests and messages."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes of all that is stored of the weight."""
        ...

    @property
    def grid(self) -> StoredGrid | None:
        """The grid that `grid_rows` are on; None where columns of one group do not adjoin."""
        ...

    @property
    def off_grid(self) -> str | None:
        """Why there is no grid; None where there is one."""
        ...

    def grid_rows(self, start: int, stop: int) -> GridRows:
        """Return the codes of rows start..stop; only where there is a grid."""
        ...

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop in float32."""
        ...

    def blocks(self) -> Iterator[bytes | bytearray]:
        """Yield the stored bytes, a few megabytes at once."""
        ...


@dataclass(frozen=True)
class CodedSlice:
    """Rows of a weight that lie in one coded weight.

    Attributes:
        start: the first of them there.
    """

    weight: CodedWeight
    start: int
    rows: int

    @property
    def dtype(self) -> str:
        return self.weight.dtype

    @property
    def size_bytes(self) -> int:
        return self.weight.size_bytes * self.rows // self.weight.shape[0]

    @property
    def grid(self) -> StoredGrid | None:
        return self.weight.grid

    @property
    def off_grid(self) -> str | None:
        return self.weight.off_grid

    def grid_rows(self, start: int, stop: int) -> GridRows:
        """Return the codes of the slice's rows start..stop."""
        return self.weight.grid_rows(self.start + start, self.start + stop)

    def read_into(self, rows: Tensor, start: int) -> None:
        """Fill float32 `rows` with the slice's rows from `start` on."""
        first = self.start + start
        rows.copy_(self.weight.rows(first, first + len(rows)))

    def blocks(self) -> Iterator[bytes | bytearray]:
        """Yield the bytes of the whole weight that the slice is part of."""
        yield from self.weight.blocks()


def dequantized(rows: GridRows) -> Tensor:
    """Return rows in float32."""
    return torch.from_numpy(rows.dequantized())
