"""GGUFReader of the package gguf, with long lists read at once.

The package makes two arrays for each entry of a list, a quarter of a minute for Gemma's vocabulary.
This reads the same parts of lists of numbers and of texts in a second.
"""

from functools import cache
from typing import Any

import numpy as np


@cache
def quick_reader() -> Any:
    """Return the class; the package must be installed."""
    import gguf

    class QuickReader(gguf.GGUFReader):
        """Replaces one helper of the reader, and the slow class of its array."""

        @property
        def data(self) -> Any:
            return self._plain

        @data.setter
        def data(self, mapped: Any) -> None:
            self._plain = mapped.view(np.ndarray)

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list, list, list]:
            types = gguf.GGUFValueType
            if types(raw_type) != types.ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            kind = types(self._get(orig_offs, np.uint32)[0])
            count = int(self._get(orig_offs + 4, np.uint64)[0])
            if kind == types.STRING:
                read = self._texts
            elif kind in self.gguf_scalar_to_np:
                read = self._numbers
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            parts, step = read(orig_offs + 12, count, kind)
            head = [self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)]
            size = 12 + sum(part.nbytes for part in parts)
            indices = list(range(1 + step, 2 + step * count, step))
            return size, head + parts, indices, [types.ARRAY, *([kind] if count else [])]

        def _numbers(self, start: int, count: int, kind: Any) -> tuple[list, int]:
            values = self._get(start, self.gguf_scalar_to_np[kind], count)
            if len(values) < count:
                raise ValueError("ends within a list of numbers")
            return list(values.reshape(-1, 1)), 1

        def _texts(self, start: int, count: int, kind: Any) -> tuple[list, int]:
            view = memoryview(self.data)
            parts: list[memoryview] = []
            for _ in range(count):
                begin = start + 8
                end = begin + int.from_bytes(view[start:begin], "little")
                if end > len(view) or begin > len(view):
                    raise ValueError("ends within a list of texts")
                parts += (view[start:begin], view[begin:end])
                start = end
            return parts, 2

    return QuickReader
