"""How ONNX Runtime writes and attends to each kind of cache; what a kind is, it says itself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pocketlm.edge_build.errors import BuildError
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.manifest import CacheEntry


@dataclass(frozen=True)
class KindOperators:
    """The operators of one kind.

    Attributes:
        opset: least version of the ONNX operators.
        floor: the first release whose CPU kernels do what the graph asks.
        in_kernel: whether GroupQueryAttention writes the cache; else TensorScatter does, which
            takes slots modulo their number, and Attention gets a mask.
        slides: whether GroupQueryAttention evicts what no later token sees.
        free_axis: name of the axis of slots where the graph leaves it open; stock runners allocate
            fewer slots when they are asked for fewer tokens. None where their number is fixed.
    """

    opset: int
    floor: str
    in_kernel: bool
    slides: bool
    free_axis: str | None


# Attention-24 with a mask, over a cache that another operator has written.
MASKED_OPSET, _MASKED_FLOOR = 24, "1.25"
# The first release whose CPU kernels have GroupQueryAttention over int8 keys and values.
_CODES_FLOOR = "1.27"

_OPERATORS = {
    # Windows that count the query's own token, and RMSNormalization-23.
    "linear": KindOperators(23, "1.23", True, False, "context_length"),
    # sliding_window_cache
    "windowed": KindOperators(23, "1.29", True, True, "window_{window}_slots"),
    # TensorScatter-24
    "ring": KindOperators(MASKED_OPSET, _MASKED_FLOOR, False, False, None),
}
# For layers with a window; the first is the default.
LOCAL_KINDS = ("windowed", "ring")


def operators_of(cache: CacheEntry) -> KindOperators:
    """Return how a cache is written and attended to.

    Raises:
        BuildError: no operators do that.
    """
    if cache.kind not in _OPERATORS:
        raise BuildError(
            f"onnx: no operators of ONNX Runtime keep a cache of kind {cache.kind!r}; choose one "
            f"of {', '.join(LOCAL_KINDS)}"
        )
    return _OPERATORS[cache.kind]


def least_opset(config: ModelConfig, caches: Iterable[CacheEntry]) -> int:
    """Return the version of ONNX operators that a graph needs."""
    shared = (MASKED_OPSET,) if config.shares_caches else ()
    return max((*(operators_of(cache).opset for cache in caches), *shared))


def runtime_floor(config: ModelConfig, caches: Iterable[CacheEntry]) -> str:
    """Return the first release whose CPU kernels do what a graph asks."""
    floors = {operators_of(cache).floor for cache in caches}
    if any(cache.dtype == "int8" for cache in caches):
        floors.add(_CODES_FLOOR)
    if config.shares_caches:
        floors.add(_MASKED_FLOOR)
    return max(floors, key=lambda floor: tuple(map(int, floor.split("."))))


def free_axes(config: ModelConfig, caches: Sequence[CacheEntry]) -> tuple[str | None, ...]:
    """Name each cache's axis of slots where the graph leaves it open; None where it is fixed.

    The full number of slots stands in the metadata under the axis' name. Where layers read each
    other's caches, masks have all slots.
    """
    if config.shares_caches:
        return (None,) * len(caches)
    axes = (operators_of(cache).free_axis for cache in caches)
    return tuple(
        None if axis is None else axis.format(window=cache.window)
        for axis, cache in zip(axes, caches, strict=True)
    )
