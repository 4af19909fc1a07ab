"""What a build's manifest would say of memory, from shapes alone. Reads and writes no file.

It has weights, caches and options as a build would make them, no files and no golden answers: it
serves planning, and no runtime opens it.
"""

import glob
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import Backend
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.kv_cache import KvPrecision, plan_caches
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.entries import tensor_entry
from pocketlm.edge_build.quantization.recipe import QuantRecipe
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.models.config import ModelConfig
from pocketlm.models.weight_shapes import weight_shapes
from pocketlm.runtime_py.manifest import BackendEntry, Manifest, RecipeRule

_NO_ANSWERS = "planned"


@dataclass(frozen=True)
class BuildChoices:
    """What a builder may choose that changes memory; None is the build's own default.

    Attributes:
        recipe: its name, or itself.
    """

    recipe: str | QuantRecipe
    context_length: int | None = None
    chunk: int | None = None
    kv: KvPrecision = "float32"
    backends: tuple[str, ...] = field(default_factory=backends.names)

    @property
    def recipe_name(self) -> str:
        return self.recipe if isinstance(self.recipe, str) else self.recipe.name


def plan_manifest(name: str, config: ModelConfig, choices: BuildChoices) -> Manifest:
    """Return the manifest that a build would write, as far as shapes say.

    Raises:
        BuildError: a choice does not suit the model.
    """
    # The defaults are a build's own.
    spec = BuildSpec(Path(name), Path(), context_length=choices.context_length, chunk=choices.chunk)
    context_length = spec.resolved_context(config.max_position_embeddings)
    plan = plan_caches(config, context_length, spec.resolved_chunk(context_length))
    recipe = choices.recipe
    if isinstance(recipe, str):
        recipe = recipes.load(recipe)
    shapes = weight_shapes(config)
    entries = {}
    for backend in map(backends.load, choices.backends):
        if choices.kv not in backend.kv:
            raise BuildError(
                f"--kv {choices.kv}: backend {backend.name} cannot; choose one of "
                f"{', '.join(backend.kv)}, or another --backend"
            )
        stored = plan.stored(backend.kv[choices.kv])
        foreseen = backend.foresee(config, stored, _defaults(backend))
        entries[backend.name] = BackendEntry(
            model=_NO_ANSWERS,
            activation_quantization="none",
            runtime_floor={},
            caches=foreseen.caches,
            rewind_tokens=None,
            logits_size=foreseen.logits_size,
            golden=_NO_ANSWERS,
            memory_plan=(),
            options=foreseen.options,
        )
    return Manifest(
        name=name,
        model=json.loads(json.dumps(asdict(config))),
        context_length=plan.context_length,
        prefill_chunk=plan.chunk,
        recipe=recipe.name,
        bos_id=None,
        stop_ids=(),
        tensors=tuple(
            tensor_entry(tensor, shapes[tensor], rule.scheme, rule.reason)
            for tensor, rule in choose_rules(shapes, recipe).items()
        ),
        backends=entries,
        files=(),
        notes=(),
        build={},
        recipe_rules=recipes.recorded(recipe),
    )


def recipe_of(manifest: Manifest) -> str | QuantRecipe:
    """Return the name of a built-in recipe that makes a manifest's weights, else its own rules.

    What a file was called decides nothing, nor what it says today.

    Raises:
        BuildError: the rules are none that a build knows.
    """
    schemes = {tensor.name: (tensor.bits, tensor.group_size) for tensor in manifest.tensors}
    for recipe in recipes.RECIPES:
        if recipe.name == manifest.recipe and _schemes(manifest, recipe) == schemes:
            return recipe.name
    # Older bundles keep no rules: each weight is one.
    rules = manifest.recipe_rules or [
        RecipeRule(glob.escape(t.name), t.bits, t.group_size, t.reason) for t in manifest.tensors
    ]
    return recipes.of_record(f"{manifest.recipe.removesuffix('.toml')}.toml", rules)


def _schemes(manifest: Manifest, recipe: QuantRecipe) -> dict[str, tuple[int, int | None]]:
    """Return bits and group size of each weight under a recipe; none if it does not suit."""
    try:
        rules = choose_rules({t.name: t.shape for t in manifest.tensors}, recipe)
    except BuildError:
        return {}
    return {
        name: (32, None) if rule.scheme is None else (rule.scheme.bits, rule.scheme.group_size)
        for name, rule in rules.items()
    }


def _defaults(backend: Backend) -> dict[str, str]:
    return {option: values[0] for option, values in backend.options.items()}
