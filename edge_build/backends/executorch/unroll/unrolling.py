"""The template's lowered program → the model's: every layer's part repeated with its own weights.

A program is a table of values and a list of instructions over them. Each instruction belongs to
the part of the layer whose cache or output it needs last; what needs none (positions, masks, the
embedding) comes first and is shared. A repeated part gets new values for what it writes, its own
caches, and copies of its delegates in which other weights are named. What flows from layer to layer
takes the same places in the next part, whatever layer that is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from executorch.exir.schema import (
    BackendDelegate,
    BackendDelegateDataReference,
    DataLocation,
    DelegateCall,
    EValue,
    ExecutionPlan,
    Instruction,
    IntList,
    KernelCall,
    NamedData,
    OptionalTensorList,
    Program,
    Tensor,
    TensorList,
)

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.executorch.inspection import CACHE_PREFIX
from pocketlm.edge_build.backends.executorch.shared_constants import lay_out
from pocketlm.edge_build.backends.executorch.unroll.constants import (
    Constant,
    constant_bytes,
    digest,
)
from pocketlm.edge_build.backends.executorch.unroll.lowered_template import (
    METHOD,
    SCALES,
    LoweredTemplate,
)
from pocketlm.edge_build.backends.executorch.unroll.memory_places import (
    cache_names,
    layer_of_cache,
    plan_memory,
)
from pocketlm.edge_build.errors import BuildError
from pocketlm.runtime_py.engines.executorch.program_file import Segment, SegmentRange

_SHARED = -1


def unroll(
    lowered: LoweredTemplate, stands_for: Sequence[int], source: LoweringInput
) -> tuple[Program, list[Segment | SegmentRange]]:
    """Return the model's program and segments, as a file takes them.

    Args:
        stands_for: for each layer of the model, the template's layer that is repeated for it.
        source: the model.
    """
    plan = next(plan for plan in lowered.program.execution_plan if plan.name == METHOD)
    parts = _Parts(plan)
    unrolled = _Unrolled(lowered, plan, source)
    unrolled.add_shared(parts)
    for layer, like in enumerate(stands_for):
        unrolled.add_layer(parts, layer, like)
    return unrolled.laid_out()


class _Parts:
    """The template's instructions by layer; `_SHARED` are those that need no layer.

    Attributes:
        instructions: by layer of the template, in order.
        cache_layers: layer of each value that is a cache.
        made_by: layer of each other value that an instruction writes.
    """

    def __init__(self, plan: ExecutionPlan) -> None:
        self.values = plan.values
        self.cache_layers = {
            index: layer_of_cache(name) for index, name in cache_names(plan.values)
        }
        self.made_by: dict[int, int] = {}
        self.instructions: dict[int, list[Instruction]] = {_SHARED: []}
        for instruction in plan.chains[0].instructions:
            call = instruction.instr_args
            written = [v for v in dict.fromkeys(call.args) if self._is_new(call, v)]
            layer = max(
                self.made_by.get(value, self.cache_layers.get(value, _SHARED))
                for value in call.args
            )
            self.made_by.update(dict.fromkeys(written, layer))
            self.instructions.setdefault(layer, []).append(instruction)

    def _is_new(self, call: Any, value: int) -> bool:
        """Say whether this call is the one that makes a value."""
        if value in self.made_by or value in self.cache_layers:
            return False
        content = self.values[value].val
        if isinstance(content, TensorList):
            # The results of an operator with several, which are arguments of their own too.
            return False
        planned = isinstance(content, Tensor) and content.allocation_info is not None
        return planned or (isinstance(call, KernelCall) and value == call.args[-1])

    def inherited(self, layer: int) -> Iterator[tuple[tuple[int, int], int]]:
        """Yield place and value of everything that a layer takes from the layer before."""
        for row, instruction in enumerate(self.instructions[layer]):
            for column, value in enumerate(instruction.instr_args.args):
                if self.made_by.get(value, _SHARED) == layer - 1 and layer > 0:
                    yield (row, column), value

    def at(self, layer: int, place: tuple[int, int]) -> int:
        """Return the value at a place of a layer's part."""
        row, column = place
        return int(self.instructions[layer][row].instr_args.args[column])


@dataclass
class _Unrolled:
    """The model's program as it grows; values and constants are numbered anew."""

    lowered: LoweredTemplate
    plan: ExecutionPlan
    source: LoweringInput

    def __post_init__(self) -> None:
        self.values: list[EValue] = []
        self.instructions: list[Instruction] = []
        self.delegates: list[BackendDelegate] = []
        # Numbers of the delegates' graphs; equal ones are one.
        self.graphs: dict[bytes, int] = {}
        self.constants = [Segment.of(b.storage) for b in self.lowered.program.constant_buffer]
        self.named: dict[str, Segment] = {}
        self.shared: dict[int, int] = {}
        self.layer_values: dict[int, int] = {}
        # Caches of the layers so far, which later layers may read.
        self.caches: dict[int, int] = {}
        self.previous_like = 0
        self.named_constants: dict[Constant, str] = {}
        self.tensor_constants: dict[Constant, int] = {}
        self.constant_of_buffer = {}
        for index, constant in self.lowered.tensors.items():
            if constant.in_layer:
                self.constant_of_buffer[index] = constant
            else:
                self.constants[index] = self._made_when_written(constant)
                self.tensor_constants[constant] = index

    def add_shared(self, parts: _Parts) -> None:
        """Add the inputs and everything that no layer's result changes."""
        for value in self.plan.inputs:
            self._renumber(value, {}, _SHARED, 0)
        self._add(parts, _SHARED, {}, 0)

    def add_layer(self, parts: _Parts, layer: int, like: int) -> None:
        """Add one layer of the model as a copy of the template's layer `like`."""
        previous, self.layer_values = self.layer_values, {}
        if layer:
            follows = self.previous_like + 1
            inherited = dict(parts.inherited(follows))
            if inherited.keys() != dict(parts.inherited(like)).keys():
                raise BuildError(
                    f"executorch: layer {layer} was lowered in two ways, depending on the layer "
                    "after it; use the pinned executorch version"
                )
            for place, value in inherited.items():
                self.layer_values[parts.at(like, place)] = previous[value]
        self.previous_like = like
        for value, cache_layer in parts.cache_layers.items():
            if cache_layer == like:
                self.caches[value] = self._append(_renamed_cache(self.plan.values[value], layer))
        self.layer_values |= self.caches
        self._add(parts, like, self.layer_values, layer - like)

    def laid_out(self) -> tuple[Program, list[Segment | SegmentRange]]:
        """Return the program and its segments: constants, graphs, what graphs name."""
        graphs = [Segment.of(data) for data in self.graphs]
        numbers = {key: 1 + len(graphs) + i for i, key in enumerate(self.named)}
        shared = {
            self.tensor_constants[constant]: numbers[key]
            for constant, key in self.named_constants.items()
            if constant in self.tensor_constants
        }
        named = [NamedData(key=key, segment_index=number) for key, number in numbers.items()]
        program = replace(self._program(), named_data=named, backend_delegate_data=[])
        return lay_out(program, self.constants, [*graphs, *self.named.values()], shared)

    def _program(self) -> Program:
        """Return the program with memory planned for its values."""
        outputs = [self.layer_values[value] for value in self.plan.outputs]
        caches = self.source.caches.layers
        overwrites = {layer: cache.layout.overwrites for layer, cache in enumerate(caches)}
        memory_bytes = plan_memory(
            self.values, self.instructions, self.plan.operators, outputs, overwrites
        )
        chain = replace(self.plan.chains[0], instructions=self.instructions, stacktrace=None)
        plan = replace(
            self.plan,
            values=self.values,
            inputs=[self.shared[value] for value in self.plan.inputs],
            outputs=outputs,
            chains=[chain],
            delegates=self.delegates,
            non_const_buffer_sizes=memory_bytes,
        )
        plans = self.lowered.program.execution_plan
        return replace(
            self.lowered.program,
            execution_plan=[plan if other.name == METHOD else other for other in plans],
        )

    def _add(self, parts: _Parts, part: int, own: dict[int, int], shift: int) -> None:
        """Add one part; `own` maps the values that are not shared, `shift` moves its weights."""
        for instruction in parts.instructions[part]:
            call = instruction.instr_args
            for value in call.args:
                if parts.made_by.get(value) == part and part != _SHARED and value not in own:
                    own[value] = self._append(self.plan.values[value])
            args = [self._renumber(value, own, part, shift) for value in call.args]
            if isinstance(call, DelegateCall):
                index = self._add_delegate(self.plan.delegates[call.delegate_index], shift)
                moved: Any = DelegateCall(index, args)
            else:
                assert isinstance(call, KernelCall), f"{type(call).__name__} in a straight program"
                moved = KernelCall(call.op_index, args)
            self.instructions.append(Instruction(moved))

    def _renumber(self, value: int, own: dict[int, int], part: int, shift: int) -> int:
        """Return the new number of a value."""
        if value in own:
            return own[value]
        content = self.plan.values[value].val
        if isinstance(content, (IntList, TensorList, OptionalTensorList)):
            items = [i if i < 0 else self._renumber(i, own, part, shift) for i in content.items]
            return self._append(EValue(replace(content, items=items)))
        if isinstance(content, Tensor) and content.data_buffer_idx in self.constant_of_buffer:
            constant = self.constant_of_buffer[content.data_buffer_idx]
            own[value] = self._append(self._moved_tensor(content, constant, shift))
            return own[value]
        if value not in self.shared:
            self.shared[value] = self._append(self.plan.values[value])
        return self.shared[value]

    def _append(self, value: EValue) -> int:
        self.values.append(replace(value))
        return len(self.values) - 1

    def _moved_tensor(self, tensor: Tensor, constant: Constant, shift: int) -> EValue:
        moved = constant.moved(shift)
        if moved not in self.tensor_constants:
            self.tensor_constants[moved] = len(self.constants)
            self.constants.append(self._made_when_written(moved))
        return EValue(replace(tensor, data_buffer_idx=self.tensor_constants[moved]))

    def _add_delegate(self, delegate: BackendDelegate, shift: int) -> int:
        """Add a delegate that names the weights of other layers."""
        data = self.lowered.program.backend_delegate_data[delegate.processed.index].data
        for key, constant in self.lowered.named.items():
            if key.encode() not in data:
                continue
            if not isinstance(constant, Constant):
                self.named[key] = Segment.of(constant)
                continue
            moved = self._name(constant.moved(shift))
            data = data.replace(key.encode(), moved.encode())
        # Segment 0 has the constants.
        number = 1 + self.graphs.setdefault(data, len(self.graphs))
        reference = BackendDelegateDataReference(DataLocation.SEGMENT, number)
        self.delegates.append(replace(delegate, processed=reference))
        return len(self.delegates) - 1

    def _name(self, constant: Constant) -> str:
        """Return the name of a delegate's constant, as long as the one that it replaces."""
        if constant not in self.named_constants:
            prefix = SCALES if constant.part == "scales" else ""
            key = self.named_constants[constant] = prefix + digest(self._bytes(constant))
            self.named[key] = self._made_when_written(constant)
        return self.named_constants[constant]

    def _made_when_written(self, constant: Constant) -> Segment:
        """Return a constant that is made again to be written: memory follows one tensor."""
        return Segment(len(self._bytes(constant)), lambda: iter((self._bytes(constant),)))

    def _bytes(self, constant: Constant) -> bytes:
        return constant_bytes(self.source.config, self.source.weights, constant)


def _renamed_cache(value: EValue, layer: int) -> EValue:
    info = value.val.extra_tensor_info
    kind = info.fully_qualified_name.rpartition(".")[2]
    name = f"{CACHE_PREFIX}{layer}.{kind}"
    return EValue(replace(value.val, extra_tensor_info=replace(info, fully_qualified_name=name)))
