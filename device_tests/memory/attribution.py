"""A phase's mappings and regions → what each part of memory holds.

What the runner itself allocates, it names: caches, logits, planned memory. Of the rest, files say
what they are by their path, small blocks of the runtime lie in the heap, and large ones have
mappings of their own. Large blocks that are there once the model is loaded are packed weights; what
a run adds to them is activations. Pages of the artifact that are resident after loading are
weights; those that a run adds are rows of the embedding table, because nothing else is read there.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pocketlm.device_tests.memory.events import Mapping, PhaseMark
from pocketlm.device_tests.memory.values import PartBytes
from pocketlm.runtime_py.memory_parts import PARTS, Part

LOADED = "loaded"
_NO_FILE = "[anonymous]"
_REGION_PARTS: dict[str, Part] = {
    "kv-global": "KV cache, global",
    "kv-ring": "KV cache, rings",
    "activations": "activations",
    "logits": "logits",
}


@dataclass(frozen=True)
class KnownFiles:
    """Names of files whose pages have a meaning.

    Attributes:
        artifact: of the bundle, that the runtime opens.
        packed: weights that the runtime packed into a file, to be mapped.
        runtime: the runner, its libraries and the loader.
    """

    artifact: frozenset[str]
    packed: frozenset[str]
    runtime: frozenset[str]

    @classmethod
    def of(
        cls, artifact: Collection[str], packed: Collection[str], runtime: Collection[str]
    ) -> "KnownFiles":
        return cls(*(frozenset(map(_name, names)) for names in (artifact, packed, runtime)))


@dataclass(frozen=True)
class _Sums:
    """A phase, added up by kind of mapping."""

    artifact: int
    packed_file: int
    blocks: int  # large ones, without the regions
    regions: dict[Part, int]
    runtime_memory: int
    runtime_code: int
    unknown: int


def attribute(phases: Sequence[PhaseMark], files: KnownFiles) -> list[tuple[PartBytes, ...]]:
    """Return the parts of each phase; those of one phase add up to what is resident.

    Before the model is loaded, large blocks are the runtime's own.
    """
    summed = [_add_up(phase, files) for phase in phases]
    loaded = next((i for i, phase in enumerate(phases) if phase.phase == LOADED), None)
    found = []
    for i, sums in enumerate(summed):
        parts = dict.fromkeys(PARTS, 0)
        parts.update(sums.regions)
        parts["runtime memory"] += sums.runtime_memory
        parts["runtime code"] += sums.runtime_code
        parts["unattributed"] += sums.unknown
        if loaded is None or i < loaded:
            parts["runtime memory"] += sums.blocks
            parts["weights, mapped"] += sums.artifact
        else:
            base = summed[loaded]
            # Weights that were dropped, or packed anew, cannot be distinguished from activations.
            packed = min(base.blocks, sums.blocks)
            parts["weights, packed"] += packed
            parts["activations"] += sums.blocks - packed
            mapped = min(base.artifact, sums.artifact)
            parts["weights, mapped"] += mapped
            parts["embedding rows"] += sums.artifact - mapped
        row = [PartBytes(part, kind, parts[part]) for part, kind in PARTS.items() if parts[part]]
        if sums.packed_file:
            row.append(PartBytes("weights, packed", "clean", sums.packed_file))
        found.append(tuple(row))
    return found


def _add_up(phase: PhaseMark, files: KnownFiles) -> _Sums:
    regions: dict[Part, int] = {}
    for region in phase.regions:
        part = _REGION_PARTS.get(region.part, "unattributed")
        regions[part] = regions.get(part, 0) + region.resident_bytes
    artifact = packed_file = blocks = runtime_memory = runtime_code = unknown = 0
    for mapping in phase.mappings:
        name = _name(mapping.path)
        if name in files.artifact:
            artifact += mapping.resident_bytes
        elif name in files.packed:
            packed_file += mapping.resident_bytes
        elif mapping.path == _NO_FILE:
            blocks += mapping.anonymous_bytes
            unknown += mapping.file_bytes
        elif _is_runtime(mapping, files):
            runtime_memory += mapping.anonymous_bytes
            runtime_code += mapping.file_bytes
        else:
            unknown += mapping.resident_bytes
    # Regions lie in blocks, small ones in the heap. A page at the edge of one may hold something
    # else too, and is counted with both: what all pages together cannot be is left out.
    regions = _cut(regions, blocks + runtime_memory)
    held = sum(regions.values())
    in_blocks = min(held, blocks)
    return _Sums(
        artifact,
        packed_file,
        blocks - in_blocks,
        regions,
        runtime_memory - (held - in_blocks),
        runtime_code,
        unknown,
    )


def _cut(regions: dict[Part, int], most: int) -> dict[Part, int]:
    """Return the regions as far as there is memory for them."""
    found = {}
    for part, size in regions.items():
        found[part] = min(size, most)
        most -= found[part]
    return found


def _is_runtime(mapping: Mapping, files: KnownFiles) -> bool:
    name = _name(mapping.path)
    # "[heap]", "[stack]", "[vdso]"; on Android also "[anon:libc_malloc]" and its kind.
    return name in files.runtime or mapping.path.startswith("[") or ".so" in name


def _name(path: str) -> str:
    return PurePosixPath(path.removesuffix(" (deleted)")).name
