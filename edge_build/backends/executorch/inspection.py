"""What a .pte consists of, without running it: operators, delegates, arenas, caches.

Weights stay in the file: only the program and the delegates' graphs are parsed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketlm.runtime_py.components import Signature, TensorSignature
from pocketlm.runtime_py.engines.executorch.program_file import (
    DTYPES,
    open_program,
    read_delegate,
)

CACHE_PREFIX = "caches.layers."

# XNNPACK's datatype of a weight → what this project calls it.
WEIGHT_KINDS: Mapping[str, str] = {
    "xnn_datatype_fp32": "float32",
    "xnn_datatype_qcint8": "int8 per channel",
    "xnn_datatype_qcint4": "int4 per channel",
    "xnn_datatype_qbint4": "int4 in groups",
}


@dataclass(frozen=True)
class DelegateGraph:
    """One XNNPACK delegate.

    Attributes:
        nodes: XNNPACK's node types, counted.
        linears: kind of weight and [out, in] of each fully connected node, counted.
    """

    nodes: Counter[str]
    linears: Counter[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class ProgramReport:
    """What one method of a .pte consists of.

    Attributes:
        operators: names of what runs outside delegates, "llama::custom_sdpa.out".
        caches: bytes of each mutable buffer, by its full name.
        signature: what it takes and gives, of the largest sizes.
        arena_bytes: planned memory: caches, activations and outputs.
        delegate_data_bytes: weights that delegates read, and repack when they load.
    """

    operators: frozenset[str]
    delegates: tuple[DelegateGraph, ...]
    caches: Mapping[str, int]
    signature: Signature
    arena_bytes: int
    delegate_data_bytes: int

    @property
    def linears(self) -> Counter[tuple[str, tuple[int, ...]]]:
        """Kind and shape of every fully connected node in a delegate, counted."""
        return sum((d.linears for d in self.delegates), Counter())

    @property
    def planned_bytes(self) -> int:
        """Planned memory without caches."""
        return self.arena_bytes - sum(self.caches.values())


def kv_cache_bytes(pte: Path) -> int:
    """Return the bytes of all keys and values, from the buffers that the file declares."""
    return sum(inspect_program(pte).caches.values())


def inspect_program(pte: Path, method: str = "forward") -> ProgramReport:
    """Parse one method of a .pte."""
    with open_program(pte) as opened:
        program = opened.program
        plan = next(p for p in program.execution_plan if p.name == method)
        delegates = [
            _summary(read_delegate(opened.read(delegate.processed.index)))
            for delegate in plan.delegates
        ]
    weights = {named.segment_index for named in program.named_data}
    operators = (f"{op.name}.{op.overload}".rstrip(".") for op in plan.operators)
    return ProgramReport(
        operators=frozenset(operators),
        delegates=tuple(delegates),
        caches=dict(_caches(plan.values)),
        signature=Signature(
            _tensor_signatures(plan.values[i] for i in plan.inputs),
            _tensor_signatures(plan.values[i] for i in plan.outputs),
        ),
        arena_bytes=sum(plan.non_const_buffer_sizes),
        delegate_data_bytes=sum(program.segments[index].size for index in weights),
    )


def _tensor_signatures(values: Iterable[Any]) -> tuple[TensorSignature, ...]:
    return tuple(
        TensorSignature(None, DTYPES[value.val.scalar_type], tuple(value.val.sizes))
        for value in values
    )


def _caches(values: list[Any]) -> Iterator[tuple[str, int]]:
    item_bytes = {"FLOAT": 4, "CHAR": 1}
    for value in values:
        info = getattr(value.val, "extra_tensor_info", None)
        name = info.fully_qualified_name if info is not None else None
        if name and name.startswith(CACHE_PREFIX):
            size = item_bytes[value.val.scalar_type.name]
            for length in value.val.sizes:
                size *= length
            yield name, size


def _summary(graph: dict[str, Any]) -> DelegateGraph:
    kinds, shapes = {}, {}
    for entry in graph["xvalues"]:
        value = entry["xvalue_union"]
        tensor = value.get("tensor_value", value)
        kinds[tensor["id_out"]] = WEIGHT_KINDS.get(tensor["datatype"], tensor["datatype"])
        shapes[tensor["id_out"]] = tuple(tensor["dims"])
    linears = Counter(
        (kinds[node["xnode_union"]["filter_id"]], shapes[node["xnode_union"]["filter_id"]])
        for node in graph["xnodes"]
        if node["xnode_union_type"] == "XNNFullyConnected"
    )
    return DelegateGraph(Counter(n["xnode_union_type"] for n in graph["xnodes"]), linears)
