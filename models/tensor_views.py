"""How published tensors hold our weights: whole, fused, transposed, stacked over layers, in pieces.

A family's `tensor_names` says it by name alone; sizes follow from the weights' shapes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pocketlm.models.errors import ModelError


@dataclass(frozen=True)
class TensorView:
    """Where a weight lies, if it is not simply a tensor of its own.

    Weights that name the same tensor are fused in it: one below the other, in the order of
    `tensor_names`.

    Attributes:
        names: complete, with "{layer}" where the layer number stands. Several hold equal shares of
            the weight's rows.
        is_transposed: stored as [in, out].
        over_layers: one tensor, [layers, ...], holds the weight of every layer.
    """

    names: tuple[str, ...]
    is_transposed: bool = False
    over_layers: bool = False

    def renamed(self, rename: Callable[[str], str]) -> "TensorView":
        """Return the same view under other names."""
        names = tuple(map(rename, self.names))
        return TensorView(names, self.is_transposed, self.over_layers)


# Our name → theirs, both with "{layer}"; ours without ".weight".
PublishedNames = Mapping[str, str | TensorView]


@dataclass(frozen=True)
class TensorSlice:
    """Rows of a weight in one published tensor.

    Attributes:
        start: the first of them, of the tensor as it would be if it were not transposed.
        layer: index along the first axis; None where there is no such axis.
    """

    name: str
    start: int
    rows: int
    is_transposed: bool
    layer: int | None


@dataclass
class Layout:
    """Where all weights of a model lie.

    Attributes:
        shapes: the shape that each published tensor must have.
        slices: by our name, the slices of a weight in order.
        holds: for each published tensor, one of the weights in it.
    """

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    slices: dict[str, tuple[TensorSlice, ...]] = field(default_factory=dict)
    holds: dict[str, str] = field(default_factory=dict)


def view_of(names: PublishedNames, weight: str) -> TensorView:
    """Return the view of our weight, e.g. "layers.3.mlp.up_proj", with its layer's number."""
    pattern, layer = _pattern(weight)
    found = names[pattern]
    view = TensorView((found,)) if isinstance(found, str) else found
    return view if layer is None else view.renamed(lambda name: name.format(layer=layer))


def published_name(names: PublishedNames, weight: str) -> str:
    """Return the name of the published tensor that is our weight and nothing else."""
    (name,) = view_of(names, weight).names
    return name


def lay_out(names: PublishedNames, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """Return where weights of these shapes lie.

    Raises:
        ModelError: a weight cannot be cut into the pieces that the family names.
    """
    views = {weight: view_of(names, weight) for weight in shapes}
    order = {pattern: index for index, pattern in enumerate(names)}
    fused: dict[tuple[str, int | None], list[str]] = {}
    for weight, view in views.items():
        if shapes[weight][0] % len(view.names):
            raise ModelError(
                f"{weight}: has {shapes[weight][0]} rows, which {len(view.names)} tensors "
                f"({', '.join(view.names)}) cannot share; the family must name a divisor of them"
            )
        for name in view.names:
            fused.setdefault((name, _layer_axis(view, weight)), []).append(weight)
    layers = 1 + max((_pattern(weight)[1] or 0 for weight in shapes), default=0)
    layout = Layout()
    for (name, layer), weights in fused.items():
        start = 0
        for weight in sorted(weights, key=lambda weight: order[_pattern(weight)[0]]):
            view = views[weight]
            rows = shapes[weight][0] // len(view.names)
            piece = TensorSlice(name, start, rows, view.is_transposed, layer)
            layout.slices[weight] = (*layout.slices.get(weight, ()), piece)
            start += rows
        shape = (start, *shapes[weights[0]][1:])
        if views[weights[0]].is_transposed:
            shape = shape[::-1]
        layout.shapes[name] = shape if layer is None else (layers, *shape)
        layout.holds[name] = weights[0]
    return layout


def _layer_axis(view: TensorView, weight: str) -> int | None:
    return _pattern(weight)[1] if view.over_layers else None


def _pattern(weight: str) -> tuple[str, int | None]:
    kind, _, rest = weight.partition(".")
    if kind != "layers":
        return weight, None
    layer, _, part = rest.partition(".")
    return f"layers.{{layer}}.{part}", int(layer)
