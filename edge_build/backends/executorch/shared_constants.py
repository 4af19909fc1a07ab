"""Lays a program's file out such that a constant which a delegate holds too stands in it once.

A tied embedding table is looked up by an operator, which finds it in the segment of the program's
constants, and multiplied with by a delegate, which finds it in a segment under a name. Here that
segment is a range of the other one. The runtime maps or reads each range that it is asked for and
never asks whether two overlap.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pocketlm.runtime_py.engines.executorch.program_file import (
    SEGMENT_ALIGNMENT,
    ProgramFile,
    Segment,
    SegmentRange,
    aligned,
    open_program,
    write_program,
)

# exir/tensor.py's ALIGNMENT.
_CONSTANT_ALIGNMENT = 16


def write_shared(model: Path, target: Path) -> None:
    """Write a .pte of ExecuTorch's own again, with what stands in it twice once.

    Args:
        target: a new file.
    """
    with open_program(model) as source, target.open("wb") as file:
        constants = constants_of(source)
        shared = {
            number: segment
            for number, constant in enumerate(constants)
            for segment in {entry.segment_index for entry in source.program.named_data}
            if _is_same(source, number, constant, segment)
        }
        for number, segment in shared.items():
            constants[number] = source.copy(segment)
        others = [source.copy(number) for number in range(1, len(source.program.segments))]
        write_program(*lay_out(source.program, constants, others, shared), file)


def lay_out(
    program: Any, constants: Sequence[Segment], others: Sequence[Segment], shared: Mapping[int, int]
) -> tuple[Any, list[Segment | SegmentRange]]:
    """Return a program and its segments for `write_program`.

    Args:
        program: executorch.exir.schema.Program; its tensors refer to constants by number.
        constants: what segment 0 is made of.
        others: the segments from 1 on.
        shared: for constants whose bytes are those of another segment, the number of that one.
    """
    from executorch.exir.schema import SubsegmentOffsets

    # What is shared comes last: ExecuTorch's own reader takes a constant to end at the next one.
    order = sorted(range(len(constants)), key=lambda number: (number in shared, number))
    offsets, end = [], 0
    for number in order:
        start = aligned(end, SEGMENT_ALIGNMENT if number in shared else _CONSTANT_ALIGNMENT)
        offsets.append(start)
        end = start + constants[number].size_bytes

    def pieces() -> Iterator[bytes]:
        written = 0
        for number, start in zip(order, offsets, strict=True):
            yield bytes(start - written)
            yield from constants[number].pieces()
            written = start + constants[number].size_bytes

    segments: list[Segment | SegmentRange] = [Segment(end, pieces), *others]
    places = dict(zip(order, offsets, strict=True))
    for number, segment in shared.items():
        segments[segment] = SegmentRange(0, places[number], constants[number].size_bytes)
    program = replace(
        _renumbered(program, {number: new for new, number in enumerate(order)}),
        constant_buffer=[],
        constant_segment=SubsegmentOffsets(segment_index=0, offsets=offsets),
    )
    return program, segments


def _renumbered(program: Any, numbers: Mapping[int, int]) -> Any:
    """Return a program whose tensors refer to constants by new numbers."""
    from executorch.exir.schema import EValue, Tensor

    def moved(value: Any) -> Any:
        content = value.val
        if not isinstance(content, Tensor):
            return value
        return EValue(replace(content, data_buffer_idx=numbers[content.data_buffer_idx]))

    plans = [
        replace(plan, values=[moved(value) for value in plan.values])
        for plan in program.execution_plan
    ]
    return replace(program, execution_plan=plans)


def constants_of(source: ProgramFile) -> list[Segment]:
    """Return the constants of a program, each with what pads it."""
    place = source.program.constant_segment
    assert place.segment_index == 0, "executorch writes the constants first"
    ends = [*place.offsets, source.program.segments[place.segment_index].size]
    return [source.copy(0, start, end - start) for start, end in pairwise(ends)]


def _is_same(source: ProgramFile, number: int, constant: Segment, segment: int) -> bool:
    """Say whether a constant has the bytes of another segment, and at most its padding besides."""
    size = source.program.segments[segment].size
    # What is smaller than its alignment would save nothing.
    if size < SEGMENT_ALIGNMENT or not 0 <= constant.size_bytes - size < _CONSTANT_ALIGNMENT:
        return False
    start = source.program.constant_segment.offsets[number]
    pairs = zip(source.copy(0, start, size).pieces(), source.copy(segment).pieces(), strict=True)
    return all(one == other for one, other in pairs)
