"""The smallest model that has every kind of layer of a model, in every neighbourhood.

Lowering traces its graph some forty times and takes time and memory by the layer, although most
layers differ in their weights alone. It is given this model instead, filled with made-up weights;
`unrolling` then repeats the lowered layers, each with its own weights. As none of the model's
weights is in it, what was lowered serves every model of these shapes (`lowered_template`).
"""

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.executorch.metadata import constant_methods
from pocketlm.edge_build.backends.executorch.parts import gathered_scales
from pocketlm.edge_build.quantization.weight import QuantizedWeight, WeightStore
from pocketlm.runtime_py.engines.executorch.metadata import Constant

LAYERS = "layers."


@dataclass(frozen=True)
class Template:
    """What is lowered in place of a model.

    Attributes:
        source: the template's own input.
        weights: those of `source`.
        methods: what stock runners ask for, of the model itself.
        stands_for: for each layer of the model, the template's layer that is repeated for it.
    """

    source: LoweringInput
    weights: "MadeUpWeights"
    methods: Mapping[str, Constant]
    stands_for: tuple[int, ...]


@dataclass(frozen=True)
class MadeUpWeights(WeightStore):
    """A store of numbers that only mark where each weight goes.

    Every tensor differs from every other, so that it is found again by its bytes.

    Attributes:
        store: the model's weights.
        shaped_like: for each weight, the one of the model whose shape and scheme it has.
        tiny_scales: weights whose scales shall not be exact in float16, as the model's are not.
    """

    store: WeightStore
    shaped_like: dict[str, str]
    tiny_scales: frozenset[str]

    def quantized(self, name: str) -> QuantizedWeight:
        like = self.store.quantized(self.shaped_like[name])
        random = np.random.default_rng([*name.encode()])
        if like.scheme.bits == 4:
            packed = random.integers(0, 256, like.packed.shape, dtype=np.uint8)
        else:
            packed = random.integers(-127, 128, like.packed.shape, dtype=np.int8)
        # The upper half of a float32 is a bfloat16: 0.5 to 1, exact where scales are kept so, or
        # 2 ** -31 to 2 ** -30.
        least = 0x3000 if name in self.tiny_scales else 0x3F00
        halves = random.integers(least, least + 0x80, like.scales.shape, dtype=np.uint32)
        return QuantizedWeight(packed, (halves << np.uint32(16)).view(np.float32), like.scheme)

    def floating(self, name: str) -> NDArray[np.float32]:
        like = self.store.floating(self.shaped_like[name])
        random = np.random.default_rng([*name.encode()])
        return random.random(like.shape, dtype=np.float32)


def make_template(source: LoweringInput) -> Template:
    """Choose the template's layers, and which of them each layer of the model is like."""
    assert not source.config.shares_caches, "such a model is lowered whole"
    kinds = [_kind(source, layer) for layer in range(source.config.num_layers)]
    walk = covering_walk(kinds)
    models = [kinds.index(kind) for kind in walk]
    schemes, shaped_like = {}, {}
    for name, scheme in source.weights.schemes.items():
        if not name.startswith(LAYERS):
            schemes[name], shaped_like[name] = scheme, name
    for layer, model in enumerate(models):
        for part in _parts(source, model):
            own, like = f"{LAYERS}{layer}.{part}", f"{LAYERS}{model}.{part}"
            schemes[own], shaped_like[own] = source.weights.schemes[like], like
    weights = MadeUpWeights(
        source.weights.folder, schemes, source.weights, shaped_like, _tiny_scales(source)
    )
    return Template(
        source=replace(
            source,
            config=replace(
                source.config, layers=tuple(source.config.layers[model] for model in models)
            ),
            caches=replace(
                source.caches, layers=tuple(source.caches.layers[model] for model in models)
            ),
            weights=weights,
        ),
        weights=weights,
        methods=constant_methods(source),
        stands_for=_match(kinds, walk),
    )


def _tiny_scales(source: LoweringInput) -> frozenset[str]:
    """Return the weights of which rows are gathered with scales that float16 cannot hold."""
    table = "embed_tokens"
    if source.weights.schemes[table] is None:
        return frozenset()
    scales = gathered_scales(source.weights.quantized(table))
    return frozenset({table} if scales.dtype != np.float16 else ())


def covering_walk(kinds: Sequence[Hashable]) -> list[Hashable]:
    """Return a short sequence with the ends and all the neighbours (a, b) of `kinds`.

    Each step goes to the nearest pair that is still missing and from which all others that are
    missing can be reached: short, not always the shortest.
    """
    missing = dict.fromkeys(pairwise(kinds))
    followers: dict[Hashable, list[Hashable]] = {}
    for first, second in missing:
        followers.setdefault(first, []).append(second)
    reachable = {kind: _reachable(kind, followers) for kind in kinds}

    def is_wanted(pair: tuple[Hashable, Hashable]) -> bool:
        others = {first for first, second in missing if (first, second) != pair}
        return pair in missing and others <= reachable[pair[1]]

    walk = [kinds[0]]
    while missing:
        path = _path(walk[-1], followers, is_wanted)
        for pair in pairwise([walk[-1], *path]):
            missing.pop(pair, None)
        walk += path
    if walk[-1] != kinds[-1]:
        walk += _path(walk[-1], followers, lambda pair: pair[1] == kinds[-1])
    return walk if len(walk) < len(kinds) else list(kinds)


def _reachable(start: Hashable, followers: Mapping[Hashable, Sequence[Hashable]]) -> set[Hashable]:
    found, waiting = {start}, [start]
    while waiting:
        new = [kind for kind in followers.get(waiting.pop(), ()) if kind not in found]
        found.update(new)
        waiting += new
    return found


def _path(
    start: Hashable,
    followers: Mapping[Hashable, Sequence[Hashable]],
    is_wanted: Callable[[tuple[Hashable, Hashable]], bool],
) -> list[Hashable]:
    """Return the steps after `start` that end with the nearest pair that is wanted."""
    paths: deque[list[Hashable]] = deque([[start]])
    seen = {start}
    while paths:
        path = paths.popleft()
        for following in followers.get(path[-1], ()):
            if is_wanted((path[-1], following)):
                return [*path[1:], following]
            if following not in seen:
                seen.add(following)
                paths.append([*path, following])
    raise AssertionError("every pair of a sequence can be reached from its start")


def _match(kinds: Sequence[Hashable], walk: Sequence[Hashable]) -> tuple[int, ...]:
    """Return for each layer a template layer of its kind with a successor of its successor's."""
    by_neighbours = {pair: i for i, pair in reversed([*enumerate(pairwise(walk))])}
    last = len(walk) - 1
    return (*(by_neighbours[pair] for pair in pairwise(kinds)), last)


def _kind(source: LoweringInput, layer: int) -> Hashable:
    """Return all that the lowered form of a layer depends on.

    The first layer stands for itself alone: what feeds it is lowered with the embedding.
    """
    schemes = tuple(
        source.weights.schemes[f"{LAYERS}{layer}.{part}"] for part in _parts(source, layer)
    )
    settings, cache = source.config.layers[layer], source.caches.layers[layer]
    return layer == 0, settings, cache, _parts(source, layer), schemes


def _parts(source: LoweringInput, layer: int) -> tuple[str, ...]:
    prefix = f"{LAYERS}{layer}."
    names = (name for name in source.weights.schemes if name.startswith(prefix))
    return tuple(sorted(name.removeprefix(prefix) for name in names))
