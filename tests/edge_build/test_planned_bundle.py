"""A planned manifest says of memory what the built one says."""

from dataclasses import replace
from pathlib import Path

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
from pocketlm.models import shapes
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.runtime_py import open_bundle
from pocketlm.runtime_py.kv_choice import INT8, KvChoice, kv_choice_of

PICO = Path("models/pico")


def test_it_says_what_the_built_one_says(pico_bundle: Path) -> None:
    built = open_bundle(pico_bundle).manifest
    choices = BuildChoices(built.recipe, built.context_length, built.prefill_chunk)
    planned = plan_bundle("pico", open_checkpoint(PICO).config, choices)
    assert planned.model == built.model
    assert planned.recipe_rules == built.recipe_rules
    assert [replace(t, sqnr_db=None) for t in built.tensors] == list(planned.tensors)
    for name, entry in built.backends.items():
        assert planned.backends[name].caches == entry.caches
        assert planned.backends[name].logits_size == entry.logits_size
    assert planned.backends["onnx"].options == built.backends["onnx"].options


def test_defaults_are_a_builds_own() -> None:
    planned = plan_bundle(
        "gemma-3-1b", shapes.load("gemma-3-1b").config, BuildChoices("int4-g32", kv=INT8)
    )
    assert (planned.context_length, planned.prefill_chunk) == (4096, 128)
    quantizations = {n: e.caches[0].quantization for n, e in planned.backends.items()}
    assert quantizations == {"executorch": "per_token", "onnx": "per_channel"}
    kinds = {n: {cache.kind for cache in e.caches} for n, e in planned.backends.items()}
    assert kinds == {"executorch": {"ring", "linear"}, "onnx": {"windowed", "linear"}}


def test_each_kind_of_layer_is_planned_in_its_own_precision() -> None:
    config = shapes.load("gemma-3-1b").config
    choices = BuildChoices("int4-g32", 32768, kv=KvChoice.named("int8-global"))
    for entry in plan_bundle("gemma-3-1b", config, choices).backends.values():
        assert {c.dtype for c in entry.caches if c.window} == {"float32"}
        assert {c.dtype for c in entry.caches if not c.window} == {"int8"}
        assert kv_choice_of(entry.caches) == choices.kv


def test_a_choice_that_does_not_suit_is_refused() -> None:
    with pytest.raises(BuildError, match="--kv int8-local: needs layers with a window"):
        qwen, local = shapes.load("qwen3-0.6b").config, KvChoice.named("int8-local")
        plan_bundle("qwen3-0.6b", qwen, BuildChoices("int4-g32", kv=local))
    config = shapes.load("gemma-3-1b").config
    with pytest.raises(BuildError, match="made for at most 32768"):
        plan_bundle("gemma-3-1b", config, BuildChoices("int4-g32", context_length=1 << 20))
    with pytest.raises(BuildError, match="unknown"):
        plan_bundle("gemma-3-1b", config, BuildChoices("int3"))
