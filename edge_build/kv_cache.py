"""Which layer gets which cache, and the arithmetic of ring slots. Knows no tensors.

docs/kv-cache.md has the proof and a worked example.
"""

from dataclasses import dataclass, replace
from typing import Literal

from edge_build.errors import BuildError
from models.config import ModelConfig
from runtime_py.manifest import CacheEntry, CacheKind, CacheQuantization

KvPrecision = Literal["float32", "int8"]
KV_PRECISIONS: tuple[KvPrecision, ...] = ("float32", "int8")


def ring_capacity(window: int, chunk: int, context_length: int) -> int:
    """Return the slots of a local layer: one per position that a query of a chunk can still see."""
    return min(context_length, window + chunk - 1)


def slot_position(slot: int, newest: int, capacity: int) -> int:
    """Return the position that a ring slot holds once `newest` is written; negative is empty."""
    return newest - (newest - slot) % capacity


@dataclass(frozen=True)
class CachePlan:
    """The caches of one build, before a backend says how it stores local layers.

    Attributes:
        layers: one entry a layer; local layers are of kind "ring", and values are float32 until a
            backend's way to store int8 is chosen with `stored`.
        chunk: most tokens written at once.
    """

    layers: tuple[CacheEntry, ...]
    context_length: int
    chunk: int

    @property
    def rewind_tokens(self) -> int | None:
        """How far back a true ring can go: its slots beyond the window. None is any distance."""
        rings = [c for c in self.layers if c.kind == "ring"]
        return self.chunk if rings else None

    @property
    def size_bytes(self) -> int:
        return sum(cache.size_bytes for cache in self.layers)

    def stored(self, quantization: CacheQuantization) -> "CachePlan":
        """Return the plan with int8 codes and such scales in every cache; "none" is float32."""
        dtype = "float32" if quantization == "none" else "int8"
        layers = (replace(c, dtype=dtype, quantization=quantization) for c in self.layers)
        return replace(self, layers=tuple(layers))


def plan_caches(config: ModelConfig, context_length: int, chunk: int) -> CachePlan:
    """Choose every layer's cache.

    Raises:
        BuildError: the context exceeds the model's, or the chunk exceeds the context.
    """
    if not 1 <= context_length <= config.max_position_embeddings:
        raise BuildError(
            f"--context {context_length}: the checkpoint was made for at most "
            f"{config.max_position_embeddings} positions; give 1 to that"
        )
    if not 1 <= chunk <= context_length:
        raise BuildError(
            f"--chunk {chunk}: the context has {context_length} positions; give 1 to that"
        )

    def entry(window: int | None) -> CacheEntry:
        capacity, kind = context_length, "linear"
        if window is not None and window < context_length:
            capacity = ring_capacity(window, chunk, context_length)
            # A ring that holds the whole context never wraps.
            kind = "ring" if capacity < context_length else "linear"
        typed: CacheKind = "ring" if kind == "ring" else "linear"
        return CacheEntry(typed, capacity, window, config.num_key_value_heads, config.head_dim)

    return CachePlan(tuple(entry(layer.window) for layer in config.layers), context_length, chunk)
