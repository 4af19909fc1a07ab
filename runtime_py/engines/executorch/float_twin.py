"""A quantized .pte → the same program with products in float32, for checks without rounding.

A kernel that multiplies int8 activations rounds more away than most faults of a graph change. In
the twin XNNPACK's delegates take each fully connected node's input as it is, and the weight as
float32: the very codes and scales of the file, multiplied out. All else is copied: operators,
attention, masks, rotary tables, norms, caches with their rounding, embeddings, planned memory. So a
twin differs from the eager model by the order of sums alone, unless the file is wrong.

It costs four bytes a weight: 4 GB of disk for 1 B parameters, and as much memory while the
runtime holds it. Writing it takes one block of weights.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketlm.runtime_py.engines.executorch.program_file import (
    ProgramFile,
    Segment,
    delegate_payload,
    open_program,
    quiet_libraries,
    read_delegate,
    write_program,
)
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.int4_packing import unpack_int4_as_float

# (bytes written, bytes in all, what)
Advance = Callable[[int, int, str], None]

_DELEGATE = "XnnpackBackend"
_LINEAR = "XNNFullyConnected"
_FLOAT = "xnn_datatype_fp32"
# Rounded when the program runs, row by row.
_DYNAMIC = "xnn_datatype_qdint8"
# Datatype of a weight → bits of a code.
_CODE_BITS = {"xnn_datatype_qcint8": 8, "xnn_datatype_qcint4": 4, "xnn_datatype_qbint4": 4}
# What a delegate's table says where it names nothing, as at index 0.
_NO_CONSTANT = {"offset": 0, "size": 0, "named_key": ""}
# An offset that says: look it up by its name.
_NAMED = 2**64 - 1
_BLOCK_ELEMENTS = 1 << 22


def silent(done: int, total: int, what: str) -> None:
    """Report nothing."""


def write_float_twin(model: Path, target: Path, advance: Advance = silent) -> None:
    """Write the float32 twin of a .pte that pocketlm built.

    Args:
        model: read only.
        target: a new file; four bytes for each weight of a linear layer.

    Raises:
        RunError: the program keeps a weight in a form that no recipe makes, or the disk is full.
    """
    with quiet_libraries(), open_program(model) as source, target.open("wb") as file:
        program, segments = _Twin(source).program_and_segments()
        total = sum(segment.size_bytes for segment in segments)
        free = shutil.disk_usage(target.parent).free
        if total > free:
            raise RunError(
                f"{model}: its float32 twin takes {total / 1e9:.1f} GB, {target.parent} has "
                f"{free / 1e9:.1f} GB free; set TMPDIR to a folder with more room"
            )
        write_program(program, _counted(segments, total, advance), file)


@dataclass(frozen=True)
class _Weight:
    """A quantized weight where it lies in the file.

    Attributes:
        codes, scales: numbers of segments.
        shape: [out, in].
        group_size: columns that share a bfloat16 scale; None for a float32 scale a row.
    """

    source: ProgramFile
    codes: int
    scales: int
    shape: tuple[int, int]
    bits: int
    group_size: int | None

    @property
    def size_bytes(self) -> int:
        """Bytes of the weight in float32."""
        return 4 * self.shape[0] * self.shape[1]

    def blocks(self) -> Iterator[bytes]:
        rows, columns = self.shape
        step = max(1, _BLOCK_ELEMENTS // columns)
        for start in range(0, rows, step):
            yield self._rows(start, min(step, rows - start)).tobytes()

    def _rows(self, start: int, count: int) -> NDArray[np.float32]:
        """Return weights [count, in], each its code times its scale."""
        row_bytes = self.shape[1] * self.bits // 8
        data = self.source.read(self.codes, start * row_bytes, count * row_bytes)
        if self.bits == 4:
            codes = unpack_int4_as_float(np.frombuffer(data, np.uint8).reshape(count, -1))
        else:
            codes = np.frombuffer(data, np.int8).reshape(count, -1).astype(np.float32)
        grouped = codes.reshape(count, -1, self.group_size or self.shape[1])
        return (grouped * self._scales(start, count)[:, :, None]).reshape(count, -1)

    def _scales(self, start: int, count: int) -> NDArray[np.float32]:
        if self.group_size is None:
            data = self.source.read(self.scales, 4 * start, 4 * count)
            return np.frombuffer(data, "<f4").reshape(count, 1)
        groups = self.shape[1] // self.group_size
        data = self.source.read(self.scales, 2 * groups * start, 2 * groups * count)
        # A bfloat16 is the upper half of a float32.
        halves = np.frombuffer(data, "<u2").reshape(count, groups).astype(np.uint32)
        return (halves << np.uint32(16)).view(np.float32)


class _Twin:
    """The twin as it grows, one delegate after the other."""

    def __init__(self, source: ProgramFile) -> None:
        self.source = source
        self.segments = {entry.key: entry.segment_index for entry in source.program.named_data}
        self.changed: dict[int, Segment] = {}
        self.weights: dict[str, _Weight] = {}
        self.needed: set[str] = set()
        for number in sorted(self._delegates()):
            graph = read_delegate(source.read(number))
            self._restore_products(graph)
            self.needed |= {constant["named_key"] for constant in graph["constant_data"]}
            self.changed[number] = Segment.of(delegate_payload(graph))

    def program_and_segments(self) -> tuple[Any, list[Segment]]:
        """Return the twin: segments that stay keep their numbers, weights come after them."""
        from executorch.exir.schema import NamedData

        program = self.source.program
        named = [entry for entry in program.named_data if entry.key in self.needed]
        emptied = set(self.segments.values()) - {entry.segment_index for entry in named}
        changed = {**self.changed, **dict.fromkeys(emptied, Segment.of(b""))}
        segments = [
            changed.get(number) or self.source.copy(number)
            for number in range(len(program.segments))
        ]
        for key, weight in self.weights.items():
            named.append(NamedData(key=key, segment_index=len(segments)))
            segments.append(Segment(weight.size_bytes, weight.blocks))
        return replace(program, named_data=named), segments

    def _delegates(self) -> set[int]:
        """Return the segments of XNNPACK's delegates."""
        from executorch.exir.schema import DataLocation

        delegates = [d for plan in self.source.program.execution_plan for d in plan.delegates]
        for delegate in delegates:
            if delegate.id != _DELEGATE or delegate.processed.location != DataLocation.SEGMENT:
                raise self._refusal(f"a part for {delegate.id} that is not in a segment")
        return {delegate.processed.index for delegate in delegates}

    def _restore_products(self, graph: dict[str, Any]) -> None:
        """Take the rounding of inputs out of a delegate's graph, and float32 weights in."""
        values = {_tensor(entry)["id_out"]: entry for entry in graph["xvalues"]}
        rounded = {id for id, entry in values.items() if _tensor(entry)["datatype"] == _DYNAMIC}
        inputs, nodes = {}, []
        for node in graph["xnodes"]:
            settings = node["xnode_union"]
            if settings.get("output_id") in rounded:
                inputs[settings["output_id"]] = settings["input_id"]
            else:
                nodes.append(node)
        for node in nodes:
            settings = node["xnode_union"]
            if settings.get("input1_id") in rounded:
                if node["xnode_union_type"] != _LINEAR or settings["flags"]:
                    raise self._refusal(f"{node['xnode_union_type']} of a rounded input")
                settings["input1_id"] = inputs[settings["input1_id"]]
                self._restore_weight(graph["constant_data"], values[settings["filter_id"]])
        graph["xnodes"] = nodes
        graph["xvalues"] = [entry for id, entry in values.items() if id not in rounded]
        _forget_unused(graph)

    def _restore_weight(self, constants: list[dict[str, Any]], entry: dict[str, Any]) -> None:
        """Make a value of a graph float32, if it is not yet."""
        tensor = _tensor(entry)
        if tensor["datatype"] == _FLOAT:
            return
        settings = entry["xvalue_union"]["quant_params"]
        names = [constants[index]["named_key"] for index in _constants_of(entry)]
        if tensor["datatype"] not in _CODE_BITS or len(names) != 2 or settings["channel_dim"]:
            raise self._refusal(f"a weight as {tensor['datatype']}")
        key = "float_" + hashlib.sha256("".join(names).encode()).hexdigest()
        codes, scales = (self.segments[name] for name in names)
        weight = self.weights[key] = _Weight(
            self.source,
            codes,
            scales,
            shape=(tensor["dims"][0], tensor["dims"][1]),
            bits=_CODE_BITS[tensor["datatype"]],
            group_size=settings.get("group_size"),
        )
        constants.append({"offset": _NAMED, "size": weight.size_bytes, "named_key": key})
        tensor |= {"datatype": _FLOAT, "constant_buffer_idx": len(constants) - 1}
        entry |= {"xvalue_union_type": "XNNTensorValue", "xvalue_union": tensor}

    def _refusal(self, found: str) -> RunError:
        return RunError(
            f"{self.source.path}: no float32 twin, the program has {found}; expected XNNPACK's "
            "linear layers as pocketlm lowers them: build the bundle again with this version"
        )


def _tensor(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry of a graph's values says of the tensor itself."""
    union = entry["xvalue_union"]
    tensor: dict[str, Any] = union.get("tensor_value", union)
    return tensor


def _constants_of(entry: dict[str, Any]) -> list[int]:
    """Return the constants that a value names: its data and its scales; 0 names none."""
    settings = entry["xvalue_union"].get("quant_params", {})
    named = _tensor(entry)["constant_buffer_idx"], settings.get("scale_buffer_idx", 0)
    return [index for index in named if index]


def _forget_unused(graph: dict[str, Any]) -> None:
    """Let a graph's table name only the constants that its values name."""
    used = {index for entry in graph["xvalues"] for index in _constants_of(entry)}
    graph["constant_data"] = [
        constant if index in used else _NO_CONSTANT
        for index, constant in enumerate(graph["constant_data"])
    ]


def _counted(segments: list[Segment], total: int, advance: Advance) -> list[Segment]:
    """Have segments tell how much of all was written."""
    done = 0

    def counted(segment: Segment) -> Iterator[bytes]:
        nonlocal done
        for piece in segment.pieces():
            yield piece
            done += len(piece)
            advance(done, total, "weights in float32")

    return [replace(segment, pieces=partial(counted, segment)) for segment in segments]
