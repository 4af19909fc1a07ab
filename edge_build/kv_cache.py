"""Which layer gets which cache. What a kind of cache is stands in `runtime_py/caches`."""

from dataclasses import dataclass, replace
from typing import Literal

from pocketlm.edge_build.errors import BuildError
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py import caches
from pocketlm.runtime_py.manifest import CacheEntry, CacheQuantization

KvPrecision = Literal["float32", "int8"]
KV_PRECISIONS: tuple[KvPrecision, ...] = ("float32", "int8")


@dataclass(frozen=True)
class CachePlan:
    """The caches of one build.

    Attributes:
        layers: one entry for each of `ModelConfig.cached_layers`; values are float32 until a
            backend's way to store int8 is chosen with `stored`.
        chunk: most tokens written at once.
    """

    layers: tuple[CacheEntry, ...]
    context_length: int
    chunk: int

    @property
    def rewind_tokens(self) -> int | None:
        """How far back all caches can go after any number of tokens. None is any distance."""
        return caches.rewind_tokens(cache.layout for cache in self.layers)

    @property
    def size_bytes(self) -> int:
        return sum(cache.size_bytes for cache in self.layers)

    def stored(self, quantization: CacheQuantization) -> "CachePlan":
        """Return the plan with int8 codes and such scales in every cache; "none" is float32."""
        dtype = "float32" if quantization == "none" else "int8"
        layers = (replace(c, dtype=dtype, quantization=quantization) for c in self.layers)
        return replace(self, layers=tuple(layers))

    def with_local(self, kind: str) -> "CachePlan":
        """Return the plan with layers that have a window kept in another kind of cache.

        Where that would take as many slots as there are positions, nothing is overwritten.
        """
        return replace(self, layers=tuple(self._kept(cache, kind) for cache in self.layers))

    def _kept(self, cache: CacheEntry, kind: str) -> CacheEntry:
        if cache.window is None:
            return cache
        slots = caches.load(kind).slots(cache.window, self.chunk, self.context_length)
        if slots >= self.context_length:
            kind, slots = caches.GLOBAL, self.context_length
        return replace(cache, kind=kind, capacity=slots)


def plan_caches(config: ModelConfig, context_length: int, chunk: int) -> CachePlan:
    """Choose every layer's cache; a backend may choose another kind for layers with a window.

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

    layers = (
        CacheEntry(
            caches.GLOBAL, context_length, layer.window, layer.num_key_value_heads, layer.head_dim
        )
        for layer in map(config.layers.__getitem__, config.cached_layers)
    )
    return CachePlan(tuple(layers), context_length, chunk).with_local(caches.LOCAL)
