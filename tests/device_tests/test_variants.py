"""What else could be built from the same model."""

from dataclasses import replace

import pytest

from device_tests.fit import fit
from device_tests.rooms import profiles
from device_tests.variants import choices_of, variants
from edge_build.planned_manifest import BuildChoices, plan_manifest
from models import shapes
from runtime_py.manifest import Manifest

SHAPE = "gemma-3-1b"


def planned(recipe: str = "int4-g32", **more: object) -> Manifest:
    choices = replace(BuildChoices(recipe), **more)  # type: ignore[arg-type]
    return plan_manifest(SHAPE, shapes.load(SHAPE).config, choices)


def asked(manifest: Manifest, backend: str = "executorch") -> list[str]:
    return [what for what, _ in variants(manifest, backend)]


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
    ]


def test_what_is_small_already_is_not_offered() -> None:
    small = planned("int4-channel", context_length=600, chunk=16, kv="int8")
    assert asked(small) == ["--chunk 16 --kv int8"]


@pytest.mark.parametrize(
    ("recipe", "smaller"),
    [
        ("none", ["int4-g32"]),
        ("int8-channel", ["int4-g32"]),
        ("int4-g64", ["int4-g128", "int4-channel"]),
    ],
)
def test_recipes_that_take_fewer_bytes(recipe: str, smaller: list[str]) -> None:
    found = [what for what in asked(planned(recipe)) if what.startswith("--recipe")]
    assert found == [f"--recipe {name}" for name in smaller]


def test_a_recipe_from_a_file_cannot_be_varied() -> None:
    assert asked(replace(planned(), recipe="my-recipe")) == []


def test_groups_that_do_not_divide_a_model_are_left_out() -> None:
    # Its 640 columns are five groups of 128.
    config = shapes.load("gemma-3-270m").config
    found = asked(plan_manifest("gemma-3-270m", config, BuildChoices("int4-g64")))
    assert "--recipe int4-g128" in found
    odd = replace(config, intermediate_size=2112)  # 33 groups of 64
    found = asked(plan_manifest("odd", odd, BuildChoices("int4-g64")))
    assert "--recipe int4-g128" not in found
    assert "--recipe int4-channel" in found


@pytest.mark.parametrize("backend", ["executorch", "onnx"])
def test_choices_are_those_that_the_bundle_was_planned_with(backend: str) -> None:
    for choices in (
        BuildChoices("int4-g32", 1024, 64, "int8", (backend,)),
        BuildChoices("none", 2048, 128, "float32", (backend,)),
    ):
        manifest = plan_manifest(SHAPE, shapes.load(SHAPE).config, choices)
        assert choices_of(manifest, backend) == choices


@pytest.mark.parametrize("backend", ["executorch", "onnx"])
def test_every_variant_is_smaller(backend: str) -> None:
    manifest = planned()
    room = profiles()[0]
    now = fit(manifest, backend, room).prediction
    for what, variant in variants(manifest, backend):
        after = fit(variant, backend, room).prediction
        assert after.peak_bytes < now.peak_bytes or after.dirty_bytes < now.dirty_bytes, what
        assert list(variant.backends) == [backend]
