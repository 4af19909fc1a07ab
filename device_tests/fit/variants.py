"""What else could be built from the same model: smaller, each with how a builder asks for it."""

from collections.abc import Iterator
from dataclasses import replace

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.fit.fitting import Variant
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle, recipe_of
from pocketlm.edge_build.quantization.recipes import DEFAULT_RECIPE
from pocketlm.models.config import ModelConfig
from pocketlm.models.errors import ModelError
from pocketlm.runtime_py.kv_choice import INT8, kv_choice_of
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.typed_json import FieldError, read_as

_SMALL_CHUNK = 32
_SHORTEST_CONTEXT = 512
# Fewer bytes, in the order of what they cost in quality.
_SMALLER_RECIPES = (DEFAULT_RECIPE, "int4-g32", "int4-g64", "int4-g128", "int4-channel")
# So many of them are offered for a shipped recipe that is not among them, such as int8-channel.
_OFFERED = 2


def choices_of(inputs: MemoryInputs, backend: str) -> BuildChoices:
    """Return what a bundle was built with.

    Raises:
        DeviceError: a build does not support the rules of its recipe.
    """
    try:
        recipe = recipe_of(inputs)
    except BuildError as error:
        raise DeviceError(
            f"{inputs.name}: its manifest has a recipe that no build supports ({error}); "
            "build it again"
        ) from error
    return BuildChoices(
        recipe=recipe,
        context_length=inputs.context_length,
        chunk=inputs.prefill_chunk,
        kv=kv_choice_of(inputs.backends[backend].caches),
        backends=(backend,),
    )


def variants(inputs: MemoryInputs, backend: str) -> Iterator[Variant]:
    """Yield single changes, then several at once."""
    now = choices_of(inputs, backend)
    config = _config(inputs)
    steps: list[tuple[str, BuildChoices]] = []
    if now.chunk is not None and now.chunk > _SMALL_CHUNK:
        steps.append((f"--chunk {_SMALL_CHUNK}", replace(now, chunk=_SMALL_CHUNK)))
    if now.kv != INT8:
        steps.append(("--kv int8", replace(now, kv=INT8)))
    for recipe in _smaller(now):
        steps.append((f"--recipe {recipe}", replace(now, recipe=recipe)))
    context = now.context_length or 0
    while (context := context // 2) >= _SHORTEST_CONTEXT:
        chunk = min(context, now.chunk or context)
        steps.append((f"--context {context}", replace(now, context_length=context, chunk=chunk)))
    steps += _together(now)
    for recipe in _smaller(now):
        steps += _with_recipe(now, recipe)
    for what, other in _planned(inputs.name, config, steps):
        if other.recipe == now.recipe_name or _weight_bytes(other) < _weight_bytes(inputs):
            yield what, other


def _config(inputs: MemoryInputs) -> ModelConfig:
    try:
        return read_as(ModelConfig, inputs.model)
    except (FieldError, ModelError) as error:
        raise DeviceError(
            f"{inputs.name}: its manifest holds no whole config of a model ({error}); build it "
            "again"
        ) from error


def _smaller(now: BuildChoices) -> tuple[str, ...]:
    """Return the recipes that may be smaller; which of them are is seen when they are planned."""
    if now.recipe in _SMALLER_RECIPES:
        return _SMALLER_RECIPES[_SMALLER_RECIPES.index(now.recipe_name) + 1 :]
    return _SMALLER_RECIPES[:_OFFERED] if isinstance(now.recipe, str) else _SMALLER_RECIPES


def _weight_bytes(inputs: MemoryInputs) -> int:
    return sum(tensor.size_bytes for tensor in inputs.tensors)


def _together(now: BuildChoices) -> list[tuple[str, BuildChoices]]:
    """Everything that costs little, at the whole context and at shorter ones."""
    chunk = min(_SMALL_CHUNK, now.chunk or _SMALL_CHUNK)
    small = replace(now, chunk=chunk, kv=INT8)
    steps = [(f"--chunk {chunk} --kv int8", small)]
    context = now.context_length or 0
    while (context := context // 2) >= _SHORTEST_CONTEXT:
        what = f"--chunk {chunk} --kv int8 --context {context}"
        steps.append((what, replace(small, context_length=context)))
    return steps


def _with_recipe(now: BuildChoices, recipe: str) -> list[tuple[str, BuildChoices]]:
    """A smaller recipe and other changes: with 8 bits in the layers one alone is seldom enough."""
    other = replace(now, recipe=recipe)
    steps = _together(other)
    if now.kv != INT8:
        steps.insert(0, ("--kv int8", replace(other, kv=INT8)))
    return [(f"--recipe {recipe} {what}", choices) for what, choices in steps]


def _planned(
    name: str, config: ModelConfig, steps: list[tuple[str, BuildChoices]]
) -> Iterator[Variant]:
    for what, choices in steps:
        try:
            yield what, plan_bundle(name, config, choices)
        except BuildError:
            continue  # a group size that does not divide this model
