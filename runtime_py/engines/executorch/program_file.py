"""A .pte as it lies on disk: its program, its segments, the graphs of its XNNPACK delegates.

Reads and writes the file. It has a program (a flatbuffer) and segments after it: one with the
program's own constants, one for each delegate, one for each weight that delegates name. A segment
may be a range of another one: a table that is looked up and multiplied with stands once. Segments
are read only as far as they are asked for.
"""

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

from pocketlm.runtime_py.engines.executorch.deferred_packages import load_program_modules
from pocketlm.runtime_py.errors import RunError

# What exir/_serialize/_program.py aligns segments to.
SEGMENT_ALIGNMENT = 128
_MAGIC = r"ET[0-9a-zA-Z][0-9a-zA-Z]"
_HEAD_BYTES = 64
_COPIED_BYTES = 1 << 24
# Types of inputs and outputs, by their numbers in a program.
DTYPES: Mapping[int, str] = {4: "int64", 6: "float32"}
# While it has a handler, torch writes every graph that it runs as source, also where logs are off:
# a tenth of a lowering's time.
_TORCH_TRACES = "torch.__trace"


@dataclass(frozen=True)
class ProgramFile:
    """An open .pte.

    Attributes:
        program: executorch.exir.schema.Program; what is in segments is not in it.
        segments_start: where segment offsets count from.
    """

    path: Path
    file: BinaryIO
    program: Any
    segments_start: int

    def read(self, segment: int, start: int = 0, size: int | None = None) -> bytes:
        """Return bytes of a segment: `size` from `start`, or to the end."""
        entry = self.program.segments[segment]
        size = entry.size - start if size is None else size
        assert start + size <= entry.size, f"segment {segment} has {entry.size} bytes"
        self.file.seek(self.segments_start + entry.offset + start)
        data = self.file.read(size)
        if len(data) < size:
            raise RunError(f"{self.path} ends within segment {segment}; copy the bundle again")
        return data

    def copy(self, segment: int, start: int = 0, size: int | None = None) -> "Segment":
        """Return bytes of a segment for another file: `size` from `start`, or to the end."""
        size_bytes = self.program.segments[segment].size - start if size is None else size

        def pieces() -> Iterator[bytes]:
            for done in range(0, size_bytes, _COPIED_BYTES):
                yield self.read(segment, start + done, min(_COPIED_BYTES, size_bytes - done))

        return Segment(size_bytes, pieces)


@dataclass(frozen=True)
class Segment:
    """A segment that is to be written.

    Attributes:
        pieces: makes the segment's bytes, piece by piece: memory follows one piece.
    """

    size_bytes: int
    pieces: Callable[[], Iterator[bytes]]

    @staticmethod
    def of(data: bytes) -> "Segment":
        """Return a segment of bytes that are in memory."""
        return Segment(len(data), lambda: iter((data,)))


@dataclass(frozen=True)
class SegmentRange:
    """A segment that is a range of an earlier one, and takes no bytes of its own.

    Attributes:
        segment: number of the earlier one.
        start: in it, in bytes; a multiple of `SEGMENT_ALIGNMENT`.
    """

    segment: int
    start: int
    size_bytes: int


@contextmanager
def open_program(path: Path) -> Iterator[ProgramFile]:
    """Open a .pte for the block.

    Raises:
        RunError: it is no program with segments after it.
    """
    with quiet_libraries():
        load_program_modules()
        from executorch.exir._serialize._program import (
            _flatbuffer_to_program,
            _get_extended_header,
        )

    with path.open("rb") as file:
        header = _get_extended_header(file.read(_HEAD_BYTES))
        if header is None or not header.segment_base_offset:
            raise RunError(
                f"{path}: expected an ExecuTorch program with segments, found none; "
                "build the bundle again or copy it again"
            )
        file.seek(0)
        program = _flatbuffer_to_program(file.read(header.program_size))
        yield ProgramFile(path, file, program, header.segment_base_offset)


def write_program(program: Any, segments: Sequence[Segment | SegmentRange], file: BinaryIO) -> None:
    """Write a program and its segments, one piece at a time.

    Args:
        program: executorch.exir.schema.Program; refers to the segments by number.
    """
    from executorch.exir._serialize._flatbuffer_program import _program_to_flatbuffer
    from executorch.exir._serialize._program import _ExtendedHeader, _insert_flatbuffer_header
    from executorch.exir.tensor import ALIGNMENT

    entries, end = _places(segments)
    body = _program_to_flatbuffer(
        replace(program, segments=entries), constant_tensor_alignment=ALIGNMENT
    )
    header_size = aligned(_ExtendedHeader.EXPECTED_LENGTH, body.max_alignment)
    program_size = header_size + len(body.data)
    segments_start = aligned(program_size, SEGMENT_ALIGNMENT)
    header = _ExtendedHeader(program_size, segments_start, end).to_bytes()
    file.write(_insert_flatbuffer_header(body.data, _MAGIC, header.ljust(header_size, b"\0")))
    for segment, entry in zip(segments, entries, strict=True):
        if isinstance(segment, SegmentRange):
            continue
        start = segments_start + entry.offset
        file.write(bytes(start - file.tell()))
        for piece in segment.pieces():
            file.write(piece)
        assert file.tell() == start + entry.size, "a segment has the size that it was given"


def _places(segments: Sequence[Segment | SegmentRange]) -> tuple[list[Any], int]:
    """Return each segment's place (executorch.exir.schema.DataSegment), and where all end."""
    from executorch.exir.schema import DataSegment

    entries: list[Any] = []
    end = 0
    for segment in segments:
        if isinstance(segment, SegmentRange):
            assert segment.start % SEGMENT_ALIGNMENT == 0, "a range is aligned like a segment"
            within = entries[segment.segment]
            assert segment.start + segment.size_bytes <= within.size, "a range ends in its segment"
            entries.append(DataSegment(within.offset + segment.start, segment.size_bytes))
        else:
            start = aligned(end, SEGMENT_ALIGNMENT)
            entries.append(DataSegment(start, segment.size_bytes))
            end = start + segment.size_bytes
    return entries, end


def program_to_bytes(program: Any) -> bytes:
    """Return a program (executorch.exir.schema.Program) with all of its data in it."""
    from executorch.exir._serialize._flatbuffer_program import _program_to_flatbuffer

    data: bytes = _program_to_flatbuffer(program).data
    return data


def program_from_bytes(data: bytes) -> Any:
    """Return what `program_to_bytes` was given."""
    with quiet_libraries():
        load_program_modules()
        from executorch.exir._serialize._flatbuffer_program import _flatbuffer_to_program

    return _flatbuffer_to_program(data)


def read_delegate(payload: bytes) -> dict[str, Any]:
    """Return the graph of an XNNPACK delegate, as serialization/schema.fbs names its fields."""
    load_program_modules()
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = _delegate_header().from_bytes(payload[: _delegate_header().EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    with _delegate_schema() as (folder, schema):
        binary = folder / "graph.bin"
        binary.write_bytes(payload[start : start + header.flatbuffer_size])
        _flatc_decompile(str(folder), str(schema), str(binary))
        graph: dict[str, Any] = json.loads((folder / "graph.json").read_bytes())
    return graph


def delegate_payload(graph: dict[str, Any]) -> bytes:
    """Return what `read_delegate` reads, for a graph whose constants are all named."""
    load_program_modules()
    from executorch.exir._serialize._flatbuffer import _flatc_compile

    with _delegate_schema() as (folder, schema):
        source = folder / "graph.json"
        source.write_text(json.dumps(graph), encoding="ascii")
        _flatc_compile(str(folder), str(schema), str(source))
        flatbuffer = (folder / "graph.bin").read_bytes()
    alignment = _constant_alignment()
    start = aligned(_delegate_header().EXPECTED_LENGTH, alignment)
    end = start + aligned(len(flatbuffer), alignment)
    header = _delegate_header()(start, len(flatbuffer), end, 0).to_bytes()
    return header.ljust(start, b"\0") + flatbuffer.ljust(end - start, b"\0")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the warnings and notices of executorch and torch to themselves."""
    previous = logging.root.manager.disable
    traces = logging.getLogger(_TORCH_TRACES)
    handlers, traces.handlers = traces.handlers, []
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        # Also what an import meanwhile added.
        traces.handlers = [*handlers, *traces.handlers]


@contextmanager
def _delegate_schema() -> Iterator[tuple[Path, Path]]:
    """Yield a temporary folder, and XNNPACK's schema in it."""
    load_program_modules()
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize

    with tempfile.TemporaryDirectory() as folder:
        schema = Path(folder) / "schema.fbs"
        schema.write_bytes(
            files(xnnpack_graph_serialize.__package__).joinpath("schema.fbs").read_bytes()
        )
        yield Path(folder), schema


def _delegate_header() -> Any:
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    return XNNHeader


def _constant_alignment() -> int:
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import (
        CONSTANT_TENSOR_ALIGNMENT,
    )

    return int(CONSTANT_TENSOR_ALIGNMENT)


def aligned(size: int, alignment: int) -> int:
    """Return the least multiple of the alignment that is not below the size."""
    return -(-size // alignment) * alignment
