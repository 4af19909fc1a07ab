"""What a bundle would say of memory, from shapes and choices alone. Reads and writes no file."""

import glob
from dataclasses import dataclass, field
from pathlib import Path

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.kv_cache import CachePlan, check_choice, plan_caches
from pocketlm.edge_build.model_document import model_document
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.entries import tensor_entry
from pocketlm.edge_build.quantization.recipe import QuantRecipe
from pocketlm.edge_build.quantization.rules import choose_rules, refuse_unmatched
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.config import ModelConfig
from pocketlm.models.weight_shapes import weight_shapes
from pocketlm.runtime_py.kv_choice import FLOAT32, KvChoice
from pocketlm.runtime_py.manifest import RecipeRule
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_model import RunChoices


@dataclass(frozen=True)
class BuildChoices:
    """What a builder may choose that changes memory; None is the build's own default.

    Attributes:
        recipe: its name, or itself.
    """

    recipe: str | QuantRecipe
    context_length: int | None = None
    chunk: int | None = None
    kv: KvChoice = FLOAT32
    backends: tuple[str, ...] = field(default_factory=backends.names)

    @property
    def recipe_name(self) -> str:
        return self.recipe if isinstance(self.recipe, str) else self.recipe.name


def plan_bundle(name: str, config: ModelConfig, choices: BuildChoices) -> MemoryInputs:
    """Return what the bundle that a build would make says of memory.

    Raises:
        BuildError: a choice does not suit the model.
    """
    # The defaults are a build's own.
    spec = BuildSpec(Path(name), Path(), context_length=choices.context_length, chunk=choices.chunk)
    context_length = spec.resolved_context(config.max_position_embeddings)
    chunk = spec.resolved_chunk(context_length)
    plan = plan_caches(config, context_length, chunk, spec.resolved_logits_rows(chunk))
    check_choice(plan, choices.kv)
    recipe, shapes = choices.recipe, weight_shapes(config)
    if isinstance(recipe, str):
        recipe = recipes.load(recipe)
        if not recipes.is_shipped(recipe):
            refuse_unmatched(shapes, recipe)
    return MemoryInputs(
        name=name,
        model=model_document(config),
        context_length=plan.context_length,
        prefill_chunk=plan.chunk,
        recipe=recipe.name,
        recipe_rules=recipes.recorded(recipe),
        tensors=tuple(
            tensor_entry(tensor, shapes[tensor], rule.scheme, rule.reason)
            for tensor, rule in choose_rules(shapes, recipe).items()
        ),
        backends={
            backend: _foreseen(backends.load(backend), config, plan, choices.kv)
            for backend in choices.backends
        },
    )


def _foreseen(backend: Backend, config: ModelConfig, plan: CachePlan, kv: KvChoice) -> RunChoices:
    if not backend.keeps(kv):
        raise BuildError(
            f"--kv {kv.name}: backend {backend.name} cannot; choose one of "
            f"{', '.join(backend.kv)}, or another --backend"
        )
    return backend.plan_artifact(config, backend.stored(plan, kv), _defaults(backend))


def recipe_of(inputs: MemoryInputs) -> str | QuantRecipe:
    """Return the name of a built-in recipe that makes a bundle's weights, else its own rules.

    What a file was called decides nothing, nor what it says today.

    Raises:
        BuildError: a build does not support the rules.
    """
    schemes = {tensor.name: (tensor.bits, tensor.group_size) for tensor in inputs.tensors}
    for recipe in recipes.RECIPES:
        if recipe.name == inputs.recipe and _schemes(inputs, recipe) == schemes:
            return recipe.name
    # Older bundles keep no rules: each weight is one.
    rules = inputs.recipe_rules or [
        RecipeRule(glob.escape(t.name), t.bits, t.group_size, t.reason) for t in inputs.tensors
    ]
    return recipes.of_record(f"{inputs.recipe.removesuffix('.toml')}.toml", rules)


def _schemes(inputs: MemoryInputs, recipe: QuantRecipe) -> dict[str, tuple[int, int | None]]:
    """Return bits and group size of each weight under a recipe; none if it does not suit."""
    try:
        rules = choose_rules({t.name: t.shape for t in inputs.tensors}, recipe)
    except BuildError:
        return {}
    return {
        name: (32, None) if rule.scheme is None else (rule.scheme.bits, rule.scheme.group_size)
        for name, rule in rules.items()
    }


def _defaults(backend: Backend) -> dict[str, str]:
    return {option: values[0] for option, values in backend.options.items()}
