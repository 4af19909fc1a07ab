"""Recipe + shapes → what happens to each weight. Shapes alone are enough."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.recipe import QuantRecipe, QuantRule

_GROUP_SIZES = (32, 64, 128, 256)


def choose_rules(shapes: Mapping[str, Sequence[int]], recipe: QuantRecipe) -> dict[str, QuantRule]:
    """Return the rule of every weight.

    Raises:
        BuildError: a group size does not divide a tensor's input channels.
    """
    return {name: _rule(name, shape, recipe) for name, shape in shapes.items()}


def refuse_unmatched(names: Iterable[str], recipe: QuantRecipe) -> None:
    """Refuse rules of a user's recipe that match no weight at all.

    A rule is not refused where earlier ones match all that it does. Recipes that ship with the
    product are for every model, and may have such rules.

    Raises:
        BuildError: names the pattern and the nearest weights.
    """
    known = tuple(names)
    for rule in recipe.rules:
        if any(fnmatchcase(name, rule.pattern) for name in known):
            continue
        tied = rule.pattern == "lm_head" and "lm_head" not in known
        # Layers are alike: one name stands for that part of all of them.
        parts = dict.fromkeys(_of_every_layer(name) for name in known)
        near = difflib.get_close_matches(_of_every_layer(rule.pattern), parts, n=3, cutoff=0.0)
        advice = "embed_tokens is the head too" if tied else f"the nearest are {', '.join(near)}"
        raise BuildError(
            f"--recipe {recipe.name}: the rule for {rule.pattern!r} matches no weight of this "
            f"model; {advice}; a pattern is a whole name, and * stands for any part of it"
        )


def _of_every_layer(name: str) -> str:
    """Return "layers.*.mlp.up_proj" for "layers.3.mlp.up_proj"."""
    kind, _, rest = name.partition(".")
    return f"layers.*.{rest.partition('.')[2]}" if kind == "layers" and "." in rest else name


def _rule(name: str, shape: Sequence[int], recipe: QuantRecipe) -> QuantRule:
    if len(shape) == 1:
        return QuantRule(name, None, "norm weights are small and multiply the residual stream")
    rule = recipe.rule(name)
    if rule.scheme is not None and rule.scheme.group_size is not None:
        in_features, group_size = shape[1], rule.scheme.group_size
        if in_features % group_size:
            fits = [str(size) for size in _GROUP_SIZES if in_features % size == 0]
            advice = f"group sizes that do: {', '.join(fits)}" if fits else "none of ours does"
            raise BuildError(
                f"{name}: {in_features} input channels are not a multiple of group_size="
                f"{group_size} (recipe {recipe.name}); {advice}; or use int4-channel"
            )
    if rule.scheme is not None and shape[1] % 2:
        raise BuildError(f"{name}: {shape[1]} input channels cannot be packed in pairs")
    return rule
