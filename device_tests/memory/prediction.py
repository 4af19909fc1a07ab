"""A manifest and a workload → what each part of memory will hold, with the arithmetic.

A manifest of a built bundle and one that was only planned give the same figures. How a runtime
packs weights and what it keeps besides is in its memory model (`runtime_py/engines`); the rest
follows from shapes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, exp

from pocketlm.device_tests.memory.parts import PARTS, Part
from pocketlm.device_tests.memory.values import PartKind
from pocketlm.device_tests.quantities import size_text
from pocketlm.runtime_py import engines
from pocketlm.runtime_py.manifest import CacheEntry, Manifest, TensorEntry
from pocketlm.runtime_py.memory_model import ModelShape, RuntimeMemory

# Linux maps pages of a file around a fault, as far as it has them already.
_FAULT_AROUND_BYTES = 64 * 1024
_PAGE_BYTES = 4096


@dataclass(frozen=True)
class Positions:
    """How far a run goes.

    Attributes:
        tokens: that the caches hold at its end.
        longest_call: most tokens of one call.
        rows: ids whose embedding rows are read; their number where the ids are not known.
    """

    tokens: int
    longest_call: int
    rows: frozenset[int] | int


@dataclass(frozen=True)
class PredictedPart:
    """One part of memory."""

    part: Part
    kind: PartKind
    size_bytes: int
    arithmetic: str


@dataclass(frozen=True)
class Prediction:
    """What a run will hold.

    Attributes:
        parts: at its end.
        load_peak_bytes: most that is resident while the model is loaded.
    """

    parts: tuple[PredictedPart, ...]
    load_peak_bytes: int
    load_arithmetic: str

    @property
    def resident_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    @property
    def dirty_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts if part.kind == "dirty")

    @property
    def clean_bytes(self) -> int:
        return self.resident_bytes - self.dirty_bytes

    @property
    def peak_bytes(self) -> int:
        return max(self.resident_bytes, self.load_peak_bytes)

    def of(self, part: Part) -> int:
        """Return the bytes of one part."""
        return sum(found.size_bytes for found in self.parts if found.part == part)


def full_context(manifest: Manifest) -> Positions:
    """Return a run that fills the context, whose text repeats itself as texts do."""
    tokens = manifest.context_length
    # A text of n words has some 8 * n ** 0.6 different ones.
    distinct = ceil(min(tokens, 8 * tokens**0.6, manifest.vocab_size))
    return Positions(tokens, manifest.prefill_chunk, distinct)


def predict(
    manifest: Manifest,
    backend: str,
    positions: Positions,
    architecture: str,
    *,
    packed_cache: bool = False,
) -> Prediction:
    """Predict a run of the native runner.

    Args:
        architecture: of the device, as `uname -m` says.
        packed_cache: whether packed weights are mapped from a file, as from the second run on.
    """
    runtime, entry = engines.load_memory(backend), manifest.backends[backend]
    shape = ModelShape.of(manifest.model, manifest.prefill_chunk)
    packed, packed_text = runtime.packed_bytes(manifest.tensors)
    rows, rows_text = _row_bytes(runtime, manifest, positions)
    activations, activations_text = runtime.activation_bytes(
        shape, entry, min(positions.longest_call, positions.tokens), architecture
    )
    mapped = runtime.mapped_bytes(shape)
    code = runtime.code_bytes.get(architecture, runtime.code_bytes["aarch64"])
    parts: list[PredictedPart] = [
        _part("weights, mapped", mapped, "the program itself"),
        PredictedPart("weights, packed", "clean" if packed_cache else "dirty", packed, packed_text),
        _part("embedding rows", rows, rows_text),
        *_cache_parts(runtime, entry.caches, positions.tokens),
        _part("activations", activations, activations_text),
        _part("logits", 4 * entry.logits_size, f"4 bytes x {entry.logits_size:,}"),
        _part("runtime memory", runtime.heap_bytes(shape), "graphs and kernels of the runtime"),
        _part("runtime code", code, "pages of libraries that run, measured"),
    ]
    loaded = mapped + packed + runtime.heap_bytes(shape) + code
    transient, transient_text = runtime.load_transient(manifest.tensors, architecture)
    if packed_cache:
        transient, transient_text = 0, "nothing, the file is mapped"
    return Prediction(
        tuple(part for part in parts if part.size_bytes),
        loaded + transient,
        f"{size_text(loaded)} loaded + {transient_text}",
    )


def _part(part: Part, size_bytes: int, arithmetic: str) -> PredictedPart:
    return PredictedPart(part, PARTS[part], size_bytes, arithmetic)


def _cache_parts(
    runtime: RuntimeMemory, caches: Sequence[CacheEntry], tokens: int
) -> Iterator[PredictedPart]:
    for is_ring in (False, True):
        members = [cache for cache in caches if cache.layout.overwrites == is_ring]
        if not members:
            continue
        size = sum(_touched_bytes(runtime, cache, tokens) for cache in members)
        slots = sorted({cache.layout.touched_slots(tokens) for cache in members})
        shown = " or ".join(f"{count:,}" for count in slots)
        row = members[0].slot_bytes
        text = f"{len(members)} layers x {shown} positions x {row:,} bytes"
        yield _part("KV cache, rings" if is_ring else "KV cache, global", size, text)


def _touched_bytes(runtime: RuntimeMemory, cache: CacheEntry, tokens: int) -> int:
    """Pages that were written: each run of positions that lie side by side ends within a page."""
    runs = 2 * (cache.num_key_value_heads if runtime.heads_apart else 1)
    run_bytes = cache.touched_bytes(tokens) / runs
    return min(
        _in_pages(cache.size_bytes / runs) * runs, _in_pages(run_bytes) * runs
    )  # fmt: skip


def _in_pages(size: float) -> int:
    return ceil(size / _PAGE_BYTES) * _PAGE_BYTES


def _row_bytes(runtime: RuntimeMemory, manifest: Manifest, positions: Positions) -> tuple[int, str]:
    """Pages of the embedding table: each row that is read brings its neighbourhood."""
    (table,) = [t for t in manifest.tensors if t.name == "embed_tokens"]
    arrays = runtime.table_row_bytes(table)
    total = sum(_windows(row, table, positions.rows) for row in arrays) * _FAULT_AROUND_BYTES
    count = positions.rows if isinstance(positions.rows, int) else len(positions.rows)
    return total, (
        f"{count:,} rows, each with the 64 KiB around it in {len(arrays)} "
        f"array{'s' if len(arrays) > 1 else ''}"
    )


def _windows(row_bytes: float, table: TensorEntry, rows: frozenset[int] | int) -> int:
    if not isinstance(rows, int):
        return len({int(row * row_bytes) // _FAULT_AROUND_BYTES for row in rows})
    windows = max(1.0, table.shape[0] * row_bytes / _FAULT_AROUND_BYTES)
    return ceil(windows * (1 - exp(-rows / windows)))
