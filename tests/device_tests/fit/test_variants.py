"""What else could be built from the same model."""

import re
from dataclasses import replace

import pytest

from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.fit.fitting import fit
from pocketlm.device_tests.fit.memory_budget import profiles
from pocketlm.device_tests.fit.variants import choices_of, variants
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
from pocketlm.edge_build.quantization.recipe import QuantRecipe, QuantRule, QuantScheme
from pocketlm.models import shapes
from pocketlm.runtime_py.kv_choice import FLOAT32, INT8, KvChoice
from pocketlm.runtime_py.manifest import RecipeRule
from pocketlm.runtime_py.memory_inputs import MemoryInputs

SHAPE = "gemma-3-1b"


def planned(recipe: str = "int4-g32", **more: object) -> MemoryInputs:
    choices = replace(BuildChoices(recipe), **more)  # type: ignore[arg-type]
    return plan_bundle(SHAPE, shapes.load(SHAPE).config, choices)


def asked(inputs: MemoryInputs, backend: str = "executorch") -> list[str]:
    return [what for what, _ in variants(inputs, backend)]


def test_single_changes_come_first_then_several_at_once() -> None:
    assert asked(planned(context_length=2048)) == [
        "--chunk 32",
        "--kv int8",
        "--recipe int4-g64",
        "--recipe int4-g128",
        "--recipe int4-channel",
        "--context 1024",
        "--context 512",
        "--chunk 32 --kv int8",
        "--chunk 32 --kv int8 --context 1024",
        "--chunk 32 --kv int8 --context 512",
        *(
            f"--recipe {recipe} {more}"
            for recipe in ("int4-g64", "int4-g128", "int4-channel")
            for more in (
                "--kv int8",
                "--chunk 32 --kv int8",
                "--chunk 32 --kv int8 --context 1024",
                "--chunk 32 --kv int8 --context 512",
            )
        ),
    ]


def test_what_is_small_already_is_not_offered() -> None:
    small = planned("int4-channel", context_length=600, chunk=16, kv=INT8)
    assert asked(small) == ["--chunk 16 --kv int8"]


def test_caches_of_two_precisions_can_become_smaller() -> None:
    mixed = planned(context_length=2048, kv=KvChoice.named("int8-local"))
    assert choices_of(mixed, "onnx").kv.name == "int8-local"
    assert "--kv int8" in asked(mixed)
    assert dict(variants(mixed, "onnx"))["--recipe int4-g64"].backends["onnx"].caches == (
        mixed.backends["onnx"].caches
    )


@pytest.mark.parametrize(
    ("recipe", "smaller"),
    [
        ("none", ["int8-head4", "int4-g32"]),
        ("int8-channel", ["int8-head4", "int4-g32"]),
        ("int8-head4", ["int4-g32", "int4-g64", "int4-g128", "int4-channel"]),
        ("int4-g32-head8", ["int4-g32"]),
        ("int4-g64", ["int4-g128", "int4-channel"]),
    ],
)
def test_recipes_that_take_fewer_bytes(recipe: str, smaller: list[str]) -> None:
    found = [what for what in asked(planned(recipe)) if re.fullmatch(r"--recipe \S+", what)]
    assert found == [f"--recipe {name}" for name in smaller]


# Products in 8 bits and a table in 4: more than any built-in recipe with 4 bits keeps.
RULES = (
    QuantRule("embed_tokens", QuantScheme(4, 32), "a small table"),
    QuantRule("*", QuantScheme(8), "8 bits"),
)


@pytest.mark.parametrize("name", ["mine.toml", "int4-g32.toml", "int4-g128"])
def test_a_recipe_from_a_file_is_planned_by_the_rules_in_the_manifest(name: str) -> None:
    recipe = QuantRecipe(name, RULES)
    inputs = plan_bundle(SHAPE, shapes.load(SHAPE).config, BuildChoices(recipe))
    found = dict(variants(inputs, "executorch"))
    assert found["--chunk 32"].tensors == inputs.tensors
    assert found["--recipe int4-g32"].tensors == planned().tensors
    # Older manifests have no rules: what each weight is stored as says it too.
    older = replace(inputs, recipe_rules=())
    assert list(found) == list(dict(variants(older, "executorch")))
    assert dict(variants(older, "executorch"))["--chunk 32"].tensors == inputs.tensors


def test_no_recipe_is_offered_that_keeps_as_many_bytes() -> None:
    recipe = QuantRecipe("mine.toml", (QuantRule("*", QuantScheme(4, 96), ""),))
    config = shapes.load(SHAPE).config  # 1,152 and 6,912 columns: groups of 96 divide both
    layers = tuple(replace(layer, num_attention_heads=3) for layer in config.layers)
    inputs = plan_bundle(SHAPE, replace(config, layers=layers), BuildChoices(recipe))
    found = [what for what in asked(inputs) if re.fullmatch(r"--recipe \S+", what)]
    assert found == ["--recipe int4-g128", "--recipe int4-channel"]


def test_rules_that_no_build_supports_are_named() -> None:
    rules = (RecipeRule("*", 4, 33, ""),)
    with pytest.raises(DeviceError, match=r"a recipe that no build supports .*33.*build it again"):
        asked(replace(planned(), recipe="mine.toml", recipe_rules=rules))


def test_groups_that_do_not_divide_a_model_are_left_out() -> None:
    # Its 640 columns are five groups of 128.
    config = shapes.load("gemma-3-270m").config
    found = asked(plan_bundle("gemma-3-270m", config, BuildChoices("int4-g64")))
    assert "--recipe int4-g128" in found
    layers = tuple(replace(layer, intermediate_size=2112) for layer in config.layers)
    odd = replace(config, layers=layers)  # 33 groups of 64
    found = asked(plan_bundle("odd", odd, BuildChoices("int4-g32")))
    assert "--recipe int4-g64" in found
    assert "--recipe int4-g128" not in found
    assert "--recipe int4-channel" in found


@pytest.mark.parametrize("backend", ["executorch", "onnx"])
def test_choices_are_those_that_the_bundle_was_planned_with(backend: str) -> None:
    for choices in (
        BuildChoices("int4-g32", 1024, 64, INT8, (backend,)),
        BuildChoices("none", 2048, 128, FLOAT32, (backend,)),
    ):
        inputs = plan_bundle(SHAPE, shapes.load(SHAPE).config, choices)
        assert choices_of(inputs, backend) == choices


@pytest.mark.parametrize("backend", ["executorch", "onnx"])
def test_every_variant_is_smaller(backend: str) -> None:
    inputs = planned()
    budget = profiles()[0]
    now = fit(inputs, backend, budget).prediction
    for what, variant in variants(inputs, backend):
        after = fit(variant, backend, budget).prediction
        assert after.peak_bytes < now.peak_bytes or after.dirty_bytes < now.dirty_bytes, what
        assert list(variant.backends) == [backend]
