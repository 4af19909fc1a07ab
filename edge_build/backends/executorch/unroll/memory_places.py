"""Gives each value of an emitted program its memory and offset, from values and instructions.

Memory 1 holds what a step computes, the next ones the caches: of global layers, then of rings, as
far as a model has them. So a runtime can tell how much of each is in use, and memory for positions
that no token has reached is not scattered among pages that every step writes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from executorch.exir.schema import (
    AllocationDetails,
    EValue,
    Instruction,
    KernelCall,
    Operator,
    Tensor,
)

from pocketlm.edge_build.backends.executorch.inspection import CACHE_PREFIX
from pocketlm.edge_build.backends.executorch.unroll.arena import Lifetime, place

_VIEW = "executorch_prim::et_view"
# Kernels may read a little past the end of a tensor, also of the last one.
_READ_PAST_BYTES = 64
_ITEM_BYTES = {
    "BOOL": 1, "BYTE": 1, "CHAR": 1, "SHORT": 2, "HALF": 2, "INT": 4, "FLOAT": 4, "LONG": 8,
    "DOUBLE": 8,
}  # fmt: skip


def plan_memory(
    values: list[EValue],
    instructions: Sequence[Instruction],
    operators: Sequence[Operator],
    outputs: Sequence[int],
    overwrites: Mapping[int, bool],
) -> list[int]:
    """Give every planned value its place; return the bytes of each memory, from memory 0 on.

    Args:
        values: changed in place.
        outputs: values that live to the end, as caches do from the beginning.
        overwrites: whether the cache of each layer uses slots again, as a ring does.
    """
    caches = dict(cache_names(values))
    spans, shares = _lifetimes(values, instructions, operators, outputs)
    memories = [[value for value in spans if value not in caches]]
    is_ring = {value: overwrites[layer_of_cache(name)] for value, name in caches.items()}
    memories += [[v for v in caches if is_ring[v] == ring] for ring in (False, True)]
    sizes, places = [0], {}
    for members in filter(None, memories):
        offsets, size = place([spans[value] for value in members])
        places.update({v: (len(sizes), at) for v, at in zip(members, offsets, strict=True)})
        sizes.append(size + _READ_PAST_BYTES)
    for value in [*spans, *shares]:
        found = places.get(shares.get(value, value))
        if found is not None and _is_planned(values[value]):
            details = AllocationDetails(found[0], found[1] & 0xFFFFFFFF, found[1] >> 32)
            values[value] = EValue(replace(values[value].val, allocation_info=details))
    return sizes


def _lifetimes(
    values: Sequence[EValue],
    instructions: Sequence[Instruction],
    operators: Sequence[Operator],
    outputs: Sequence[int],
) -> tuple[dict[int, Lifetime], dict[int, int]]:
    """Return when each planned value is alive, and whose memory each view shares."""
    end = len(instructions)
    spans: dict[int, Lifetime] = {}
    shares: dict[int, int] = {}
    for step, instruction in enumerate(instructions):
        call = instruction.instr_args
        if isinstance(call, KernelCall) and operators[call.op_index].name == _VIEW:
            shares[call.args[-1]] = shares.get(call.args[0], call.args[0])
        for value in call.args:
            if _is_planned(values[value]):
                owner = shares.get(value, value)
                first = spans[owner].first if owner in spans else step
                known_bytes = spans[owner].size_bytes if owner in spans else 0
                spans[owner] = Lifetime(max(_size(values[value]), known_bytes), first, step)
    for value, _ in cache_names(values):
        spans[value] = Lifetime(_size(values[value]), 0, end)
    for value in outputs:
        owner = shares.get(value, value)
        spans[owner] = replace(spans[owner], last=end)
    return spans, shares


def layer_of_cache(name: str) -> int:
    """Return the layer that a cache of this full name belongs to."""
    return int(name.removeprefix(CACHE_PREFIX).partition(".")[0])


def cache_names(values: Sequence[EValue]) -> Iterator[tuple[int, str]]:
    """Yield index and full name of each cache."""
    for index, value in enumerate(values):
        info = getattr(value.val, "extra_tensor_info", None)
        name = info.fully_qualified_name if info is not None else None
        if name and name.startswith(CACHE_PREFIX):
            yield index, name


def _is_planned(value: EValue) -> bool:
    return isinstance(value.val, Tensor) and value.val.allocation_info is not None


def _size(value: EValue) -> int:
    return prod(value.val.sizes) * _ITEM_BYTES[value.val.scalar_type.name]
