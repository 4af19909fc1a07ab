"""A tied table stands once in a .pte, and ExecuTorch's own reader and runtime take it so."""

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("executorch")

from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary
from executorch.exir.schema import KernelCall

from pocketlm.edge_build.backends.executorch.shared_constants import write_shared
from pocketlm.runtime_py.engines.executorch.program_file import (
    SEGMENT_ALIGNMENT,
    Segment,
    SegmentRange,
    open_program,
    write_program,
)
from pocketlm.runtime_py.errors import RunError
from tests.artifacts import lowered_executorch, random_tokens

# Of lookups in each form: 4 bits in groups, 8 bits, float32.
TIED = [
    ("gemma3_text", "int4-g32", "quantized_decomposed::embedding_4bit"),
    ("gemma3_text", "int8-channel", "quantized_decomposed::embedding_byte"),
    ("gemma2", "none", "aten::embedding"),
]
ROWS, COLUMNS = 512, 64
TABLE_BYTES = {"int4-g32": ROWS * COLUMNS // 2, "int8-channel": ROWS * COLUMNS}
TABLE_BYTES["none"] = 4 * ROWS * COLUMNS


@dataclass(frozen=True)
class Places:
    """Where bytes lie in a file: start and size.

    Attributes:
        table: the constant that the lookup reads, as far as its segment goes.
        named: what delegates name.
    """

    table: tuple[int, int]
    named: tuple[tuple[int, int], ...]


def _places(model: Path, lookup: str) -> Places:
    with open_program(model) as opened:
        program = opened.program
        plan = program.execution_plan[0]
        (call,) = (
            instruction.instr_args
            for instruction in plan.chains[0].instructions
            if isinstance(instruction.instr_args, KernelCall)
            and plan.operators[instruction.instr_args.op_index].name == lookup
        )
        constant = plan.values[call.args[0]].val.data_buffer_idx
        start = program.constant_segment.offsets[constant]
        segment = program.segments[program.constant_segment.segment_index]
        named = (program.segments[entry.segment_index] for entry in program.named_data)
        return Places(
            (segment.offset + start, segment.size - start),
            tuple((place.offset, place.size) for place in named),
        )


@cache
def _expanded(file: Path) -> bytes:
    """Return what ExecuTorch's own reader and writer make of a file: each segment on its own."""
    program = deserialize_pte_binary(file.read_bytes())
    return bytes(serialize_pte_binary(program, extract_delegate_segments=True))


@pytest.mark.parametrize(("family", "recipe", "lookup"), TIED)
def test_the_lookup_and_the_head_read_the_same_bytes(family: str, recipe: str, lookup: str) -> None:
    places = _places(lowered_executorch(family, recipe).model_file, lookup)
    assert places.table[1] == TABLE_BYTES[recipe]
    assert places.named.count(places.table) == 1
    assert places.table[0] % SEGMENT_ALIGNMENT == 0


@pytest.mark.parametrize(("family", "recipe", "lookup"), TIED)
def test_a_file_with_the_table_twice_answers_alike(
    family: str, recipe: str, lookup: str, tmp_path: Path
) -> None:
    built = lowered_executorch(family, recipe)
    twice = tmp_path / "model.pte"
    twice.write_bytes(_expanded(built.model_file))
    places = _places(twice, lookup)
    assert not any(_overlaps(places.table, other) for other in places.named)
    saved = twice.stat().st_size - built.model_file.stat().st_size
    assert 0 <= saved - TABLE_BYTES[recipe] < SEGMENT_ALIGNMENT
    expected = _stock_logits(twice.read_bytes())
    assert np.array_equal(_stock_logits(built.model_file), expected)  # mapped
    assert np.array_equal(_stock_logits(built.model_file.read_bytes()), expected)  # in memory


@pytest.mark.parametrize(("family", "recipe", "lookup"), TIED)
def test_a_file_of_executorchs_own_is_written_with_the_table_once(
    family: str, recipe: str, lookup: str, tmp_path: Path
) -> None:
    built = lowered_executorch(family, recipe)
    twice = tmp_path / "twice.pte"
    twice.write_bytes(_expanded(built.model_file))
    write_shared(twice, tmp_path / "once.pte")
    assert (tmp_path / "once.pte").read_bytes() == built.model_file.read_bytes()


def test_a_model_with_a_head_of_its_own_is_as_executorch_writes_it(tmp_path: Path) -> None:
    file = lowered_executorch("qwen3", "int8-channel").model_file
    assert _expanded(file) == file.read_bytes()
    write_shared(file, tmp_path / "once.pte")
    assert (tmp_path / "once.pte").read_bytes() == file.read_bytes()


def test_a_file_that_ends_within_the_table_is_refused(tmp_path: Path) -> None:
    file = lowered_executorch("gemma3_text", "int4-g32").model_file
    start, size = _places(file, TIED[0][2]).table
    with open_program(file) as opened:
        end = opened.segments_start + start + size // 2
    cut = tmp_path / "model.pte"
    cut.write_bytes(file.read_bytes()[:end])
    with open_program(cut) as opened, pytest.raises(RunError, match="ends within segment 0; copy"):
        opened.read(0)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (SegmentRange(0, SEGMENT_ALIGNMENT // 2, 8), "aligned like a segment"),
        (SegmentRange(0, SEGMENT_ALIGNMENT, 9), "ends in its segment"),
    ],
)
def test_a_range_lies_in_its_segment_at_an_aligned_place(part: SegmentRange, message: str) -> None:
    with open_program(lowered_executorch("gemma3_text", "int4-g32").model_file) as opened:
        whole = Segment.of(bytes(SEGMENT_ALIGNMENT + 8))
        with pytest.raises(AssertionError, match=message):
            write_program(opened.program, [whole, part], BytesIO())


def _overlaps(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]


def _stock_logits(program: Path | bytes) -> np.ndarray:
    """Run a program with ExecuTorch's own Python runtime, mapped or from memory."""
    import torch
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
    from executorch.kernels import quantized  # noqa: F401
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(program).load_method("forward")
    rows, position = [], 0
    for length in (5, 1, 4):
        tokens = torch.tensor([random_tokens(length, seed=position)])
        rows.append(method.execute((tokens, torch.tensor([position])))[0].numpy().copy())
        position += length
    return np.concatenate([row[:, -1] for row in rows])
