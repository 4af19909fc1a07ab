"""Recipe + shapes → what happens to each weight. Shapes alone are enough."""

from collections.abc import Mapping, Sequence

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.recipe import QuantRecipe, QuantRule

_GROUP_SIZES = (32, 64, 128, 256)


def choose_rules(shapes: Mapping[str, Sequence[int]], recipe: QuantRecipe) -> dict[str, QuantRule]:
    """Return the rule of every weight.

    Raises:
        BuildError: a group size does not divide a tensor's input channels.
    """
    return {name: _rule(name, shape, recipe) for name, shape in shapes.items()}


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
