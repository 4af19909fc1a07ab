"""How parts of memory are stacked, and which look each has.

A part keeps its look on the whole page: a colour by its place in the stack, hatched where its pages
are clean, so that a page printed in grey still tells dirty from clean.
"""

from dataclasses import dataclass

from pocketlm.device_tests.memory.values import PartKind, Phase
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.figures import UNATTRIBUTED, peak_bytes

COLORS = 8
REST = COLORS  # the look of what no line explains, and of parts too thin to see
# Below this share of the peak a layer is thinner than its own outline.
_THIN = 0.012


@dataclass(frozen=True)
class Layer:
    """One layer of the stack.

    Attributes:
        color: 0..COLORS - 1, or REST.
        parts: those that it stands for: one, or some too thin to see.
        sizes_bytes: at the end of each phase.
    """

    name: str
    kind: PartKind
    color: int
    parts: tuple[str, ...]
    sizes_bytes: tuple[int, ...]


def stack(report: Report) -> tuple[Layer, ...]:
    """Return the layers from the bottom up: dirty below clean, large below small.

    Parts too thin to see are put together, one layer of a kind.
    """
    peak = peak_bytes(report) or 0
    layers: list[Layer] = []
    kinds: tuple[PartKind, ...] = ("dirty", "clean")
    for kind in kinds:
        sizes = _sizes_of_parts(report.phases, kind)
        names = sorted(sizes, key=lambda part: (part == UNATTRIBUTED, -max(sizes[part]), part))
        thin = [part for part in names if max(sizes[part]) < _THIN * peak]
        if len(thin) < 2:
            thin = []
        for part in names:
            if part not in thin:
                color = REST if part == UNATTRIBUTED else len(layers) % COLORS
                layers.append(Layer(part, kind, color, (part,), tuple(sizes[part])))
        if thin:
            together = tuple(
                sum(column) for column in zip(*(sizes[part] for part in thin), strict=True)
            )
            name = f"{len(thin)} small parts"
            layers.append(Layer(name, kind, REST, tuple(thin), together))
    return tuple(layers)


def _sizes_of_parts(phases: tuple[Phase, ...], kind: PartKind) -> dict[str, list[int]]:
    sizes: dict[str, list[int]] = {}
    for i, phase in enumerate(phases):
        for part in phase.parts:
            if part.kind == kind and part.resident_bytes > 0:
                sizes.setdefault(part.part, [0] * len(phases))[i] += part.resident_bytes
    return sizes
