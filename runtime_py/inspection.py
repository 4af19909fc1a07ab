"""What a bundle consists of, added up from its manifest. Opens no artifact."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pocketlm.runtime_py.manifest import CacheEntry, CacheQuantization, Manifest, TensorEntry
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_parts import Part, PartKind
from pocketlm.runtime_py.memory_prediction import PHONE_ARCHITECTURE, full_context, predict


@dataclass(frozen=True)
class FilePart:
    """Files that belong together: a backend's, the golden answers, or the text files."""

    part: str
    files: int
    size_bytes: int


@dataclass(frozen=True)
class WeightPart:
    """Tensors of one role that are stored alike; 32 bits means not quantized."""

    part: str
    bits: int
    group_size: int | None
    tensors: int
    size_bytes: int
    lowest_sqnr_db: float | None


@dataclass(frozen=True)
class OwnGridPart:
    """Tensors of one role that the checkpoint has on a grid, in groups of that grid.

    Attributes:
        on_grid: groups that lie on it.
        codes_kept: groups whose codes are the checkpoint's.
        kept: groups whose codes and scales are.
    """

    part: str
    tensors: int
    groups: int
    on_grid: int
    codes_kept: int
    kept: int


@dataclass(frozen=True)
class UnquantizedPart:
    """Tensors of one role that stayed in full precision for one reason."""

    part: str
    reason: str
    tensors: int
    size_bytes: int


@dataclass(frozen=True)
class CachePart:
    """Layers whose caches are alike; `scale_bytes` are constants of the artifact."""

    backend: str
    kind: str
    window: int | None
    capacity: int
    dtype: str
    quantization: CacheQuantization
    layers: int
    size_bytes: int
    scale_bytes: int


@dataclass(frozen=True)
class MemoryPart:
    """What a part of memory holds once the whole context is used, on a phone."""

    backend: str
    part: Part
    kind: PartKind
    size_bytes: int
    arithmetic: str


def file_parts(manifest: Manifest) -> tuple[FilePart, ...]:
    """Add up file sizes by top folder."""
    parts: dict[str, FilePart] = {}
    for entry in manifest.files:
        top, separator, _ = entry.path.partition("/")
        name = top if separator else "text files"
        part = parts.get(name, FilePart(name, 0, 0))
        parts[name] = FilePart(name, part.files + 1, part.size_bytes + entry.size_bytes)
    return tuple(parts.values())


def weight_parts(manifest: Manifest) -> tuple[WeightPart, ...]:
    """Add up weights by role and scheme."""
    parts: dict[tuple[str, int, int | None], WeightPart] = {}
    for entry in manifest.tensors:
        role = _role(entry.name)
        key = role, entry.bits, entry.group_size
        part = parts.get(key, WeightPart(*key, 0, 0, None))
        parts[key] = replace(
            part,
            tensors=part.tensors + 1,
            size_bytes=part.size_bytes + entry.size_bytes,
            lowest_sqnr_db=_lowest((part.lowest_sqnr_db, entry.sqnr_db)),
        )
    return tuple(parts.values())


def own_grid_parts(manifest: Manifest) -> tuple[OwnGridPart, ...]:
    """Add up what was kept of the checkpoint's own grids, by role, and of all weights as "all"."""
    parts: dict[str, OwnGridPart] = {}
    for entry in manifest.tensors:
        own = entry.own_grid
        for role in (_role(entry.name), "all") if own else ():
            assert own is not None, "only such entries have roles here"
            part = parts.get(role, OwnGridPart(role, 0, 0, 0, 0, 0))
            parts[role] = OwnGridPart(
                role,
                part.tensors + 1,
                part.groups + own.groups,
                part.on_grid + own.on_grid,
                part.codes_kept + own.codes_kept,
                part.kept + own.kept,
            )
    every = parts.pop("all", None)
    return (*parts.values(), every) if every else ()


def cache_parts(backend: str, caches: Sequence[CacheEntry]) -> tuple[CachePart, ...]:
    """Add up caches by kind."""
    parts: dict[tuple[str, int | None, int, str, CacheQuantization], CachePart] = {}
    for cache in caches:
        key = cache.kind, cache.window, cache.capacity, cache.dtype, cache.quantization
        part = parts.get(key, CachePart(backend, *key, 0, 0, 0))
        parts[key] = replace(
            part,
            layers=part.layers + 1,
            size_bytes=part.size_bytes + cache.size_bytes,
            scale_bytes=part.scale_bytes + cache.scale_bytes,
        )
    return tuple(parts.values())


def memory_parts(manifest: Manifest) -> tuple[MemoryPart, ...]:
    """Predict each backend's memory."""
    inputs = MemoryInputs.of(manifest)
    return tuple(
        MemoryPart(backend, found.part, found.kind, found.size_bytes, found.arithmetic)
        for backend in manifest.backends
        for found in predict(inputs, backend, full_context(inputs), PHONE_ARCHITECTURE).parts
    )


def unquantized(manifest: Manifest) -> tuple[TensorEntry, ...]:
    """Return the tensors that are stored in full precision."""
    return tuple(entry for entry in manifest.tensors if entry.bits == 32)


def unquantized_parts(manifest: Manifest) -> tuple[UnquantizedPart, ...]:
    """Add up what is stored in full precision, by role and reason."""
    parts: dict[tuple[str, str], UnquantizedPart] = {}
    for entry in unquantized(manifest):
        key = _role(entry.name), entry.reason
        part = parts.get(key, UnquantizedPart(*key, 0, 0))
        parts[key] = replace(
            part, tensors=part.tensors + 1, size_bytes=part.size_bytes + entry.size_bytes
        )
    return tuple(parts.values())


def _role(name: str) -> str:
    # layers.7.attention.q_proj is attention; layers.7.attention_norm and norm are norms.
    parts = name.split(".")
    if "norm" in parts[-1]:
        return "norms"
    return parts[2] if parts[0] == "layers" and len(parts) > 2 else parts[0]


def _lowest(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)
