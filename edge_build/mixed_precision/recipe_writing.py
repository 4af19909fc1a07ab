"""A recipe of a rule for each weight, as TOML that a build reads and people edit."""

from collections.abc import Mapping
from pathlib import Path

from pocketlm.edge_build.mixed_precision.budget import Choice
from pocketlm.edge_build.mixed_precision.recipe_budget import RecipeBudget
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.recipe import DEFAULT_METHOD, QuantRecipe

# In a bundle, where the recipe was planned for it.
RECIPE_NAME = "recipe.toml"


def mixed_recipe(budget: RecipeBudget, planned: str | None) -> QuantRecipe:
    """Return the recipe of a planned file; before it is planned, one of as many bytes."""
    text = recipe_toml(budget.unmeasured(), "provisional") if planned is None else planned
    return recipes.parse(Path(RECIPE_NAME), text)


def recipe_toml(chosen: Mapping[str, Choice], opening: str) -> str:
    """Return the text of a recipe file.

    Args:
        opening: what stands above the rules, for people.
    """
    lines = [f"# {line}".rstrip() for line in opening.splitlines()]
    for name, choice in chosen.items():
        lines += ["", "[[rules]]", f'pattern = "{name}"', f"bits = {choice.scheme.bits}"]
        if choice.scheme.group_size is not None:
            lines.append(f"group_size = {choice.scheme.group_size}")
        if choice.scheme.method != DEFAULT_METHOD:
            lines.append(f'method = "{choice.scheme.method}"')
        lines.append(f'reason = "alone it costs a KL of {choice.kl_nats:.2g} nats"')
    return "\n".join((*lines, ""))
