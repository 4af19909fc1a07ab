"""What a bundle says of memory, and a workload → what each part will hold, with the arithmetic.

The only figures that there are: `inspect`, `fit`, the ledger of a profile, and the heap that an
engine asks for read them here. How a runtime packs weights and what it keeps besides is in its
memory model (`runtime_py/engines`); the rest follows from shapes.
"""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, exp

from pocketlm.runtime_py import engines
from pocketlm.runtime_py.manifest import CacheEntry, Manifest, TensorEntry
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_model import ModelShape, RuntimeMemory
from pocketlm.runtime_py.memory_parts import PARTS, Part, PartKind
from pocketlm.runtime_py.sizes import size_text

# What is not measured on a device that has another architecture is taken from this one.
PHONE_ARCHITECTURE = "aarch64"

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


def full_context(inputs: MemoryInputs) -> Positions:
    """Return a run that fills the context, whose text repeats itself as texts do."""
    tokens = inputs.context_length
    # A text of n words has some 8 * n ** 0.6 different ones.
    distinct = ceil(min(tokens, 8 * tokens**0.6, inputs.vocab_size))
    return Positions(tokens, inputs.prefill_chunk, distinct)


def heap_bytes(manifest: Manifest, backend: str) -> int:
    """Return what filling the context takes on this machine that no file backs."""
    inputs = MemoryInputs.of(manifest)
    return predict(inputs, backend, full_context(inputs), platform.machine()).dirty_bytes


def predict(
    inputs: MemoryInputs,
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
    runtime, choices = engines.load_memory(backend), inputs.backends[backend]
    shape = ModelShape.of(inputs.model, inputs.prefill_chunk)
    packed, packed_text = runtime.packed_bytes(inputs.tensors)
    rows, rows_text = _row_bytes(runtime, inputs, positions)
    activations, activations_text = runtime.activation_bytes(
        shape, choices, min(positions.longest_call, positions.tokens), architecture
    )
    mapped = runtime.mapped_bytes(shape)
    code = runtime.code_bytes.get(architecture, runtime.code_bytes[PHONE_ARCHITECTURE])
    parts: list[PredictedPart] = [
        _part("weights, mapped", mapped, "the program itself"),
        PredictedPart("weights, packed", "clean" if packed_cache else "dirty", packed, packed_text),
        _part("embedding rows", rows, rows_text),
        *_cache_parts(runtime, choices.caches, positions.tokens),
        _part("activations", activations, activations_text),
        _part("logits", 4 * choices.logits_size, f"4 bytes x {choices.logits_size:,}"),
        _part("runtime memory", runtime.heap_bytes(shape), "graphs and kernels of the runtime"),
        _part("runtime code", code, "pages of libraries that run, measured"),
    ]
    loaded = mapped + packed + runtime.heap_bytes(shape) + code
    transient, transient_text = runtime.load_transient(inputs.tensors, architecture)
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
        rows = sorted({cache.slot_bytes for cache in members})
        row_text = " or ".join(f"{row:,}" for row in rows)
        text = f"{len(members)} layers x {shown} positions x {row_text} bytes"
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


def _row_bytes(
    runtime: RuntimeMemory, inputs: MemoryInputs, positions: Positions
) -> tuple[int, str]:
    """Pages of the embedding table: each row that is read brings its neighbourhood."""
    (table,) = [t for t in inputs.tensors if t.name == "embed_tokens"]
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
