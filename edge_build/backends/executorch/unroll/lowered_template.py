"""A lowered template without its weights: what is repeated for a model, and what the cache keeps.

The weights of a template are made up, so their bytes are left out and their places remembered. The
rest follows from shapes, schemes, caches and tools alone: `template_key` is the digest of these.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from executorch.exir._serialize._named_data_store import NamedDataStoreOutput
from executorch.exir.schema import Buffer, Program

from pocketlm.edge_build.backends.executorch.program import logits_size
from pocketlm.edge_build.backends.executorch.unroll.constants import (
    Constant,
    constant_bytes,
    digest,
    model_constants,
)
from pocketlm.edge_build.backends.executorch.unroll.template import Template
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.lowering_key import lowering_key
from pocketlm.runtime_py.engines.executorch.program_file import (
    SEGMENT_ALIGNMENT,
    program_from_bytes,
    program_to_bytes,
)
from pocketlm.runtime_py.typed_json import load_object, read_as

METHOD = "forward"
SCALES = "scale_"
_HEADER_SIZE_BYTES = 8


@dataclass(frozen=True)
class LoweredTemplate:
    """A template's program; values are as executorch emitted them.

    Attributes:
        program: constants that are weights are empty.
        tensors: which weight each of them is, by number of the buffer.
        named: the delegates' constants by name, in order; bytes are no weight.
    """

    program: Program
    tensors: Mapping[int, Constant]
    named: Mapping[str, Constant | bytes]

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads."""
        named = {k: v for k, v in self.named.items() if isinstance(v, Constant)}
        others = {k: v for k, v in self.named.items() if isinstance(v, bytes)}
        header = _Header(
            tensors={str(index): constant for index, constant in self.tensors.items()},
            names=tuple(self.named),
            weights=named,
            sizes={key: len(data) for key, data in others.items()},
        )
        text = json.dumps(asdict(header)).encode()
        size = len(text).to_bytes(_HEADER_SIZE_BYTES, "little")
        return b"".join((size, text, *others.values(), program_to_bytes(self.program)))

    @classmethod
    def from_bytes(cls, data: bytes) -> "LoweredTemplate":
        """Read what `to_bytes` returned."""
        at = _HEADER_SIZE_BYTES + int.from_bytes(data[:_HEADER_SIZE_BYTES], "little")
        header = read_as(_Header, load_object(data[_HEADER_SIZE_BYTES:at].decode()))
        others = {}
        for key, size in header.sizes.items():
            others[key] = data[at : at + size]
            at += size
        return cls(
            program=program_from_bytes(data[at:]),
            tensors={int(index): constant for index, constant in header.tensors.items()},
            named={key: header.weights.get(key) or others[key] for key in header.names},
        )


@dataclass(frozen=True)
class _Header:
    tensors: Mapping[str, Constant]
    names: tuple[str, ...]
    weights: Mapping[str, Constant]
    sizes: Mapping[str, int]


def without_weights(
    program: Program, named_data: NamedDataStoreOutput, template: Template
) -> LoweredTemplate:
    """Find the template's weights in what was lowered, and leave them out.

    Args:
        program: emitted from the template.
        named_data: the constants of its delegates.

    Raises:
        BuildError: the lowering keeps a weight in another form than `constants` says.
    """
    known = _known_constants(template)
    named: dict[str, Constant | bytes] = {}
    for key, entry in named_data.pte_data.items():
        assert SEGMENT_ALIGNMENT % entry.alignment == 0, f"{key} is aligned to {entry.alignment}"
        data = named_data.buffers[entry.buffer_index]
        found = known.get((key.removeprefix(SCALES), len(data)))
        named[key] = found or (data if isinstance(data, bytes) else data.to_bytes())
    sizes = {size for _, size in known}
    tensors = {}
    for index, buffer in enumerate(program.constant_buffer):
        size = len(buffer.storage)
        found = known.get((digest(buffer.storage), size)) if size in sizes else None
        if found is not None:
            tensors[index] = found
    missing = set(known.values()) - set(named.values()) - set(tensors.values())
    if missing:
        example = min(f"{constant.name} ({constant.part})" for constant in missing)
        raise BuildError(
            f"executorch: the lowered program does not hold {len(missing)} of {len(known)} "
            f"constants in the expected form, such as {example}; use the pinned executorch version"
        )
    return LoweredTemplate(
        program=_without(program, tensors),
        tensors=tensors,
        named=named,
    )


def template_key(template: Template) -> str:
    """Return the digest of everything that determines a lowered template."""
    source = template.source
    return lowering_key(
        source,
        source.caches,
        "pocketlm.edge_build.backends.executorch.lowering",
        weights=[sorted(template.weights.tiny_scales), *template.weights.shaped_like.items()],
        logits_size=logits_size(source),
        methods=dict(template.methods),
    )


def _known_constants(template: Template) -> dict[tuple[str, int], Constant]:
    """Return the template's constants by the digest and the number of their bytes."""
    config, weights = template.source.config, template.source.weights
    known = {}
    for constant in model_constants(config, weights):
        data = constant_bytes(config, weights, constant)
        known[digest(data), len(data)] = constant
    return known


def _without(program: Program, tensors: Mapping[int, Any]) -> Program:
    """Return a program without some constants, and without notes on where code came from."""
    buffers = [
        Buffer(b"") if index in tensors else buffer
        for index, buffer in enumerate(program.constant_buffer)
    ]
    plans = [
        replace(plan, chains=[replace(chain, stacktrace=None) for chain in plan.chains])
        for plan in program.execution_plan
    ]
    return replace(program, constant_buffer=buffers, execution_plan=plans)
