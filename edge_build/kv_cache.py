"""Which layer gets which cache. What a kind of cache is stands in `runtime_py/caches`."""

from dataclasses import dataclass, replace

from pocketlm.edge_build.errors import BuildError
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py import caches
from pocketlm.runtime_py.kv_choice import KvChoice
from pocketlm.runtime_py.manifest import CacheEntry, CacheQuantization


@dataclass(frozen=True)
class CachePlan:
    """The caches of one build, and the calls that write them.

    Attributes:
        layers: one entry for each of `ModelConfig.cached_layers`; values are float32 until a
            backend's way to store each kind of layer is chosen with `stored`.
        chunk: most tokens written at once.
        logits_rows: a call of at most so many tokens gives logits after each of them.
    """

    layers: tuple[CacheEntry, ...]
    context_length: int
    chunk: int
    logits_rows: int = 1

    @property
    def rewind_tokens(self) -> int | None:
        """How far back all caches can go after any number of tokens. None is any distance."""
        return caches.rewind_tokens(cache.layout for cache in self.layers)

    @property
    def size_bytes(self) -> int:
        return sum(cache.size_bytes for cache in self.layers)

    @property
    def has_both_kinds(self) -> bool:
        """Whether some layers have a window and others have none."""
        return len({cache.window is None for cache in self.layers}) == 2

    def stored(
        self, local: CacheQuantization, global_: CacheQuantization | None = None
    ) -> "CachePlan":
        """Return the plan with int8 codes and such scales in its caches; "none" is float32.

        Args:
            local: of layers with a window.
            global_: of the others; None is as `local`.
        """
        global_ = local if global_ is None else global_
        layers = (_coded(c, global_ if c.window is None else local) for c in self.layers)
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


def _coded(cache: CacheEntry, quantization: CacheQuantization) -> CacheEntry:
    dtype = "float32" if quantization == "none" else "int8"
    return replace(cache, dtype=dtype, quantization=quantization)


def check_choice(plan: CachePlan, choice: KvChoice) -> None:
    """Refuse a choice between kinds of layers that a model does not have.

    Raises:
        BuildError: the plan has one kind.
    """
    if choice.is_mixed and not plan.has_both_kinds:
        found = "has" if plan.layers[0].window is not None else "has none"
        raise BuildError(
            f"--kv {choice.name}: needs layers with a window and layers without; every layer of "
            f"this model {found}; give float32 or int8"
        )


def plan_caches(
    config: ModelConfig, context_length: int, chunk: int, logits_rows: int = 1
) -> CachePlan:
    """Choose every layer's cache; a backend may choose another kind for layers with a window.

    Raises:
        BuildError: the context exceeds the model's, the chunk exceeds the context, or rows of
            logits exceed the chunk.
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

    if not 1 <= logits_rows <= chunk:
        raise BuildError(
            f"--logits-rows {logits_rows}: a call has at most {chunk} tokens; give 1 to that"
        )
    layers = (
        CacheEntry(
            caches.GLOBAL, context_length, layer.window, layer.num_key_value_heads, layer.head_dim
        )
        for layer in map(config.layers.__getitem__, config.cached_layers)
    )
    plan = CachePlan(tuple(layers), context_length, chunk, logits_rows)
    return plan.with_local(caches.LOCAL)
