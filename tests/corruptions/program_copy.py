"""A copy of a bundle whose ExecuTorch program can be changed, without lowering anything again.

What a .pte holds lies in three places: linear weights by the digests of their bytes, beside the
graphs of XNNPACK delegates; norms, the table and rotary frequencies in the program's own constants;
windows, scales of attention and slots in the program's values and instructions.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from executorch.exir.schema import (
    Bool,
    DelegateCall,
    Double,
    EValue,
    Instruction,
    Int,
    KernelCall,
    NamedData,
    Tensor,
)
from numpy.typing import NDArray

from pocketlm.edge_build.backends.executorch.unroll.memory_places import plan_memory
from pocketlm.runtime_py.engines.executorch.program_file import (
    Segment,
    SegmentRange,
    delegate_payload,
    open_program,
    read_delegate,
    write_program,
)
from tests.corruptions.bundle_copy import BundleCopy, Change

# The linear layers and norms of a delegate in the order in which it runs them: the second half of a
# layer, then the first half of the next.
_SECOND, _FIRST = ("o_proj", "gate_proj", "up_proj", "down_proj"), ("q_proj", "k_proj", "v_proj")
_SECOND_NORMS = ("post_attention_norm", "mlp_norm", "post_mlp_norm")
_FIRST_NORMS = ("attention_norm", "q_norm", "k_norm")
_DTYPES = {"BYTE": np.uint8, "HALF": np.float16, "FLOAT": np.float32, "DOUBLE": np.float64}
_NAMED = 2**64 - 1
# Of constants in their segment.
_ALIGNMENT = 16


class ProgramCopy(BundleCopy):
    """A copy whose program can be changed.

    Attributes:
        segments: bytes of each segment of the file. A table that is looked up and multiplied with
            is in two, of which a fault may change one.
        graphs: of the delegates: the first runs up to the first attention, the last is the head.
    """

    backend = "executorch"

    def __init__(self, bundle: Path, folder: Path) -> None:
        super().__init__(bundle, folder)
        with open_program(self.artifact) as opened:
            self.program = opened.program
            self.segments = [
                bytearray(opened.read(number)) for number in range(len(opened.program.segments))
            ]
        self.plan = self.method("forward")
        self.graphs = [
            read_delegate(bytes(self.segments[delegate.processed.index]))
            for delegate in self.plan.delegates
        ]
        self.layers = len(self.graphs) - 2

    def write_artifact(self) -> None:
        self._plan_memory()
        for delegate, graph in zip(self.plan.delegates, self.graphs, strict=True):
            self.segments[delegate.processed.index] = bytearray(delegate_payload(graph))
        segments = [self._written(number) for number in range(len(self.segments))]
        with self.artifact.open("wb") as file:
            write_program(self.program, segments, file)

    def _written(self, number: int) -> Segment | SegmentRange:
        """Return a segment as the build writes it: what stands among the constants too, once."""
        data, constants = bytes(self.segments[number]), self.program.constant_segment
        entries, first = self.program.segments, constants.segment_index
        if number != first and number < len(entries):
            start = entries[number].offset - entries[first].offset
            shared = start in constants.offsets
            if shared and self.segments[first][start : start + len(data)] == data:
                return SegmentRange(first, start, len(data))
        return Segment.of(data)

    def method(self, name: str) -> Any:
        return next(plan for plan in self.program.execution_plan if plan.name == name)

    # The program's values and instructions.

    def calls(self, operator: str) -> list[Any]:
        """Return the calls of an operator, in order."""
        calls = (instruction.instr_args for instruction in self.plan.chains[0].instructions)
        return [
            call
            for call in calls
            if isinstance(call, KernelCall) and self.plan.operators[call.op_index].name == operator
        ]

    def attention(self, layer: int) -> Any:
        """Return the call of a layer: query, key, value, start, mask, ..., causal, scale, out."""
        return self.calls("llama::custom_sdpa")[layer]

    def delegate_call(self, number: int) -> Any:
        calls = (instruction.instr_args for instruction in self.plan.chains[0].instructions)
        return [call for call in calls if isinstance(call, DelegateCall)][number]

    def number(self, value: int) -> Any:
        """Return a value that is no tensor."""
        content = self.plan.values[value].val
        (found,) = vars(content).values()
        return found

    def add_number(self, number: float) -> int:
        """Add a value for one call to name."""
        kinds = {bool: Bool, int: Int, float: Double}
        return self.add_value(EValue(kinds[type(number)](number)))

    def add_value(self, value: EValue) -> int:
        self.plan.values.append(value)
        return len(self.plan.values) - 1

    def copied_chain(self, start: Any, ends: Sequence[int]) -> dict[int, int]:
        """Repeat a call and all that depends on it, up to some values; return the new values.

        The copies stand behind the originals.
        """
        copies: dict[int, int] = {}
        instructions = self.plan.chains[0].instructions
        last, added = 0, []
        for step, instruction in enumerate(instructions):
            call = instruction.instr_args
            inputs, out = call.args[:-1], call.args[-1]
            reached = call is start or any(value in copies for value in inputs)
            if isinstance(call, KernelCall) and reached and not set(copies) >= set(ends):
                copies[out] = self.add_value(deepcopy(self.plan.values[out]))
                args = [copies.get(value, value) for value in call.args]
                added.append(Instruction(KernelCall(call.op_index, args)))
                last = step + 1
        instructions[last:last] = added
        return copies

    def _plan_memory(self) -> None:
        """Give values their places as the build does: those of a sound program stay."""
        caches = self.manifest.backends[self.backend].caches
        overwrites = [cache.layout.overwrites for cache in caches]
        plan = self.plan
        plan.non_const_buffer_sizes = plan_memory(
            plan.values, plan.chains[0].instructions, plan.operators, plan.outputs, overwrites
        )

    # Its constants.

    def constant(self, value: int) -> NDArray[Any]:
        """Return a constant tensor's numbers, as they lie in the file."""
        tensor = self.plan.values[value].val
        start = self.program.constant_segment.offsets[tensor.data_buffer_idx]
        dtype = np.dtype(_DTYPES[tensor.scalar_type.name])
        data = self.segments[self.program.constant_segment.segment_index]
        return np.frombuffer(data, dtype, prod(tensor.sizes), start).reshape(tensor.sizes)

    def is_constant(self, value: int) -> bool:
        content = self.plan.values[value].val
        return isinstance(content, Tensor) and bool(content.data_buffer_idx)

    def zeros_like(self, value: int) -> int:
        """Add a constant tensor of zeros."""
        place, zeros = self.program.constant_segment, np.zeros_like(self.constant(value))
        data = self.segments[place.segment_index]
        data = data + bytes(-len(data) % _ALIGNMENT)
        place.offsets.append(len(data))
        self.segments[place.segment_index] = data + zeros.tobytes()
        tensor = replace(self.plan.values[value].val, data_buffer_idx=len(place.offsets) - 1)
        return self.add_value(EValue(tensor))

    def table(self, part: str) -> NDArray[Any]:
        """Return codes or scales of the embedding, a row for each token."""
        (call,) = self.calls("quantized_decomposed::embedding_4bit")
        return self.constant(call.args[("codes", "scales").index(part)])

    def norm(self, name: str) -> NDArray[Any]:
        """Return the weight of a norm; those of heads are in pair order."""
        return self.constant(self._norm_values()[name])

    def frequencies(self) -> Iterator[tuple[Any, NDArray[Any]]]:
        """Yield the call that multiplies positions with a kind's frequencies, and those [D]."""
        for call in self.calls("aten::mul"):
            if self.is_constant(call.args[1]):
                numbers = self.constant(call.args[1])
                if (numbers > 0).all():
                    yield call, numbers

    def _norm_values(self) -> dict[str, int]:
        found = {}
        for number in range(len(self.graphs)):
            values = [
                value
                for value in self.delegate_call(number).args
                if self.is_constant(value) and prod(self.plan.values[value].val.sizes) > 1
            ]
            found |= zip(self._names(number, _SECOND_NORMS, _FIRST_NORMS), values, strict=True)
        return found

    def _names(self, number: int, second: Sequence[str], first: Sequence[str]) -> list[str]:
        """Return the names of what a delegate holds: of two layers' halves, or of the end."""
        if number > self.layers:
            return ["norm" if "norm" in first[0] else "lm_head"]
        halves = ((number - 1, second), (number, first))
        return [
            f"layers.{layer}.{_place(part)}"
            for layer, parts in halves
            if 0 <= layer < self.layers
            for part in parts
        ]

    # Its delegates.

    def linear(self, name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Return a linear layer's graph, its node, and its weight's value."""
        for number, graph in enumerate(self.graphs):
            values = {_tensor(entry)["id_out"]: entry for entry in graph["xvalues"]}
            nodes = [
                node["xnode_union"]
                for node in graph["xnodes"]
                if node["xnode_union_type"] == "XNNFullyConnected"
                and "quant_params" in values[node["xnode_union"]["filter_id"]]["xvalue_union"]
            ]
            names = self._names(number, _SECOND, _FIRST)
            assert len(names) == len(nodes), "each delegate has the linear layers that it should"
            if name in names:
                node = nodes[names.index(name)]
                return graph, node, values[node["filter_id"]]
        raise AssertionError(f"no linear layer {name}")

    def codes(self, name: str) -> NDArray[np.uint8]:
        """Return a linear layer's codes, [out, in / 2]; even columns are the low four bits."""
        graph, _, value = self.linear(name)
        rows, columns = _tensor(value)["dims"]
        data = self._named(graph, _tensor(value)["constant_buffer_idx"])
        return np.frombuffer(data, np.uint8).reshape(rows, columns // 2)

    def change_scales(self, name: str, change: Change) -> None:
        """Change a linear layer's scales, [out, groups] float32; bfloat16 is kept of them."""
        graph, _, value = self.linear(name)
        settings = value["xvalue_union"]["quant_params"]
        halves = np.frombuffer(self._named(graph, settings["scale_buffer_idx"]), np.uint16)
        scales = (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
        scales = scales.reshape(_tensor(value)["dims"][0], -1)
        change(scales)
        halves[:] = (scales.reshape(-1).view(np.uint32) >> 16).astype(np.uint16)

    def own_constant(self, graph: dict[str, Any], value: int, numbers: NDArray[Any]) -> None:
        """Give one value of one graph another constant than those that share it."""
        key = f"own_{len(self.segments)}"
        self.program.named_data.append(NamedData(key=key, segment_index=len(self.segments)))
        self.segments.append(bytearray(numbers.tobytes()))
        constant = {"offset": _NAMED, "size": numbers.nbytes, "named_key": key}
        graph["constant_data"].append(constant)
        entry = next(e for e in graph["xvalues"] if _tensor(e)["id_out"] == value)
        _tensor(entry)["constant_buffer_idx"] = len(graph["constant_data"]) - 1

    def _named(self, graph: dict[str, Any], constant: int) -> bytearray:
        key = graph["constant_data"][constant]["named_key"]
        named = next(entry for entry in self.program.named_data if entry.key == key)
        return self.segments[named.segment_index]


def nodes(graph: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the settings of a kind of node, in order."""
    return [n["xnode_union"] for n in graph["xnodes"] if n["xnode_union_type"] == kind]


def _place(part: str) -> str:
    if part in (*_SECOND_NORMS, "attention_norm"):
        return part
    return f"mlp.{part}" if part in _SECOND[1:] else f"attention.{part}"


def _tensor(entry: dict[str, Any]) -> dict[str, Any]:
    union = entry["xvalue_union"]
    tensor: dict[str, Any] = union.get("tensor_value", union)
    return tensor
