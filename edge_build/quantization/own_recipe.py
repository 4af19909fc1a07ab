"""A checkpoint's own grids → the recipe that keeps them, and rules of other recipes that do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.own_grid import OwnGrid, find_grid
from pocketlm.edge_build.quantization.recipe import (
    DEFAULT_METHOD,
    OWN_GRID_METHOD,
    QuantRecipe,
    QuantRule,
    QuantScheme,
)
from pocketlm.models.checkpoint import Checkpoint

OWN_RECIPE = "checkpoint-grid"


@dataclass(frozen=True)
class OwnGrids:
    """The grids of a checkpoint's weights.

    Attributes:
        found: by name; weights on no grid are not in it.
        bits: of every matrix, as it is stored.
        has_codes: a file of codes, whose precision is its own also where no grid is found.
    """

    found: Mapping[str, OwnGrid]
    bits: Mapping[str, float]
    has_codes: bool

    @property
    def decide(self) -> bool:
        """Whether the checkpoint has a recipe of its own."""
        return bool(self.found) or self.has_codes


def find_grids(checkpoint: Checkpoint) -> OwnGrids:
    """Find the grid of every weight; real numbers are judged by a few rows."""
    matrices = [name for name in checkpoint.names() if len(checkpoint.shape(name)) == 2]
    found = {name: find_grid(checkpoint, name) for name in matrices}
    stored = checkpoint.tensors
    return OwnGrids(
        {name: grid for name, grid in found.items() if grid is not None},
        {name: 8 * stored[name].row_bytes / stored[name].shape[1] for name in matrices},
        any(stored[name].dtype not in ("F32", "F16", "BF16") for name in matrices),
    )


def own_recipe(checkpoint: Checkpoint, grids: OwnGrids, backends: Sequence[Backend]) -> QuantRecipe:
    """Return the recipe that keeps as much as all backends hold.

    Raises:
        BuildError: there is no grid, or codes are stored in an order that none holds.
    """
    if not grids.decide:
        raise BuildError(
            f"--recipe {OWN_RECIPE}: the checkpoint is on no grid that could be kept; take another "
            "recipe, such as int4-g32"
        )
    for name in grids.bits:
        why = checkpoint.tensors[name].off_grid
        if why is not None:
            raise BuildError(
                f"{name}: its codes cannot be kept: {why}; give a --recipe, such as int4-g32, to "
                "dequantize the weights and quantize them anew"
            )
    rules = {name: _own_rule(name, grids, backends) for name in grids.bits}
    return QuantRecipe(OWN_RECIPE, (*_joined(rules), _OTHERS))


_OTHERS = QuantRule("*", None, f"{OWN_RECIPE}: the checkpoint has no matrix of this name")


def keep_own_codes(
    rules: Mapping[str, QuantRule], grids: OwnGrids, backends: Sequence[Backend]
) -> dict[str, QuantRule]:
    """Return the rules; those that can hold a weight's own codes, rounded to nearest, keep them."""
    return {name: _keeping(rule, grids.found.get(name), backends) for name, rule in rules.items()}


def own_grid_notes(
    rules: Mapping[str, QuantRule], grids: OwnGrids, recipe: str, checkpoint: Checkpoint
) -> tuple[str, ...]:
    """Return what a build says of weights whose own codes it does not keep."""
    anew: dict[str, list[str]] = {}
    for name, rule in rules.items():
        scheme, grid = rule.scheme, grids.found.get(name)
        why = checkpoint.tensors[name].off_grid
        kept = scheme is None or scheme.method == OWN_GRID_METHOD
        if grid is not None and not kept:
            anew.setdefault(shown_grid(grid), []).append(name)
        elif why is not None:
            anew.setdefault(why, []).append(name)
    return tuple(
        f"{len(names)} weights, {names[0]} the first: the checkpoint has them on a grid "
        f"({grid}), which recipe {recipe} does not keep: dequantized and quantized anew."
        for grid, names in anew.items()
    )


def shared_weights_notes(
    rules: Mapping[str, QuantRule], grids: OwnGrids, backends: Sequence[Backend]
) -> tuple[str, ...]:
    """Say which backend would hold a grid that all of them together do not."""
    able: dict[str, int] = {}
    for name, found in grids.found.items():
        scheme, best = rules[name].scheme, _schemes(found)[0]
        if scheme is not None and scheme.method == OWN_GRID_METHOD and scheme.bits == best.bits:
            if all(backend.refuse(best) is None for backend in backends):
                continue
            for backend in backends:
                able[backend.name] = able.get(backend.name, 0) + (backend.refuse(best) is None)
    return tuple(
        f"{count} weights have a grid that {name} holds exactly, but the backends share one set "
        f"of weights; --backend {name} alone keeps it."
        for name, count in able.items()
        if count
    )


def shown_grid(found: OwnGrid) -> str:
    """Return a grid as messages show it."""
    size = found.grid.group_size
    groups = "one scale per output channel" if size is None else f"groups of {size}"
    return f"{found.grid.name}, {groups}"


def _own_rule(name: str, grids: OwnGrids, backends: Sequence[Backend]) -> QuantRule:
    found = grids.found.get(name)
    if found is not None:
        scheme = _first_held(_schemes(found), backends)
        return QuantRule(name, scheme, f"{OWN_RECIPE}: {shown_grid(found)}")
    # Four bits would cost a file of four bits most of what it is worth (docs/importing.md).
    stored = f"stored in {grids.bits[name]:.3g} bits a weight, on no grid of ours"
    return QuantRule(name, QuantScheme(8), f"{OWN_RECIPE}: {stored}")


def _schemes(found: OwnGrid) -> list[QuantScheme]:
    """Return the schemes for a grid, the one that keeps most first."""
    grid = found.grid
    plain = QuantScheme(grid.bits, grid.group_size, OWN_GRID_METHOD)
    schemes = []
    if grid.has_zero_points:
        zeros = replace(plain, zero_points=True)
        schemes += [replace(zeros, scale_dtype="float32"), zeros]
        if grid.bits == 4 and grid.group_size is None:
            # Codes counted from zero fit 8 bits.
            wide = QuantScheme(8, None, OWN_GRID_METHOD)
            schemes += [replace(wide, scale_dtype="float32"), wide]
    schemes += [replace(plain, scale_dtype="float32"), plain]
    return [*schemes, QuantScheme(8, None, OWN_GRID_METHOD)]


def _first_held(schemes: Sequence[QuantScheme], backends: Sequence[Backend]) -> QuantScheme:
    held = (s for s in schemes if all(backend.refuse(s) is None for backend in backends))
    return next(held, schemes[-1])


def _keeping(rule: QuantRule, found: OwnGrid | None, backends: Sequence[Backend]) -> QuantRule:
    scheme = rule.scheme
    if found is None or scheme is None or scheme.method != DEFAULT_METHOD:
        return rule
    grid = found.grid
    has_groups = scheme.group_size == grid.group_size or (
        scheme.group_size is not None
        and (grid.group_size is None or grid.group_size % scheme.group_size == 0)
    )
    if not has_groups or scheme.bits < grid.bits:
        return rule
    kept = replace(scheme, method=OWN_GRID_METHOD)
    zeros = replace(kept, zero_points=grid.has_zero_points and scheme.bits == grid.bits)
    exact = [replace(one, scale_dtype="float32") for one in (zeros, kept)]
    return replace(rule, scheme=_first_held([*exact, kept], backends))


def _joined(rules: Mapping[str, QuantRule]) -> list[QuantRule]:
    """Return few rules: one for the weights of a name in all layers, where all are alike."""
    joined: list[QuantRule] = []
    for name, rule in rules.items():
        if any(fnmatchcase(name, one.pattern) for one in joined):
            continue
        kind, _, rest = name.partition(".")
        pattern = f"{kind}.*.{rest.partition('.')[2]}" if kind == "layers" else name
        alike = [one for other, one in rules.items() if fnmatchcase(other, pattern)]
        same = all((one.scheme, one.reason) == (rule.scheme, rule.reason) for one in alike)
        joined.append(replace(rule, pattern=pattern) if same else rule)
    return joined
