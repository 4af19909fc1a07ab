"""Which layer gets which cache, and the bytes of all together."""

from dataclasses import replace

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.kv_cache import check_choice, plan_caches
from pocketlm.models import shapes
from pocketlm.models.config import ModelConfig
from pocketlm.runtime_py.kv_choice import INT8, KvChoice
from pocketlm.runtime_py.manifest import CacheQuantization
from tests.small_layers import SMALL_LAYER


def config_with(windows: tuple[int | None, ...], longest: int = 100) -> ModelConfig:
    return ModelConfig(
        model_type="gemma3_text",
        vocab_size=32,
        hidden_size=64,
        layers=tuple(replace(SMALL_LAYER, window=window) for window in windows),
        rms_norm_eps=1e-6,
        max_position_embeddings=longest,
        attention_scale=0.25,
        activation="gelu_tanh",
    )


def test_plan_gives_rings_to_local_layers_and_the_context_to_global_ones() -> None:
    plan = plan_caches(config_with((8, None)), context_length=40, chunk=5)
    local, full = plan.layers
    assert (local.kind, local.capacity, local.window) == ("ring", 12, 8)
    assert (full.kind, full.capacity, full.window) == ("linear", 40, None)
    assert plan.rewind_tokens == 5


def test_a_ring_that_would_hold_the_whole_context_is_linear_with_a_window() -> None:
    plan = plan_caches(config_with((8, None)), context_length=10, chunk=5)
    assert (plan.layers[0].kind, plan.layers[0].capacity, plan.layers[0].window) == (
        "linear",
        10,
        8,
    )
    assert plan.rewind_tokens is None


def test_a_backend_chooses_another_kind_for_layers_with_a_window() -> None:
    plan = plan_caches(config_with((8, None)), context_length=40, chunk=5).stored("per_token")
    kept = plan.with_local("windowed")
    assert kept.layers == (replace(plan.layers[0], kind="windowed"), plan.layers[1])
    assert kept.rewind_tokens == 0
    assert kept.with_local("ring") == plan
    everything = plan.with_local("linear")
    assert [(c.kind, c.capacity) for c in everything.layers] == [("linear", 40)] * 2


@pytest.mark.parametrize(
    ("quantization", "dtype", "head_bytes"),
    [("none", "float32", 16 * 4), ("per_channel", "int8", 16), ("per_token", "int8", 16 + 4 + 1)],
)
def test_a_plan_is_stored_as_a_backend_does(
    quantization: CacheQuantization, dtype: str, head_bytes: int
) -> None:
    exact = plan_caches(config_with((8, None)), context_length=40, chunk=5)
    plan = exact.stored(quantization)
    assert {(c.dtype, c.quantization) for c in plan.layers} == {(dtype, quantization)}
    # Two key/value heads in 12 + 40 slots.
    assert plan.size_bytes == 2 * 2 * (12 + 40) * head_bytes
    assert plan.rewind_tokens == 5
    assert plan.stored("none") == exact


def test_each_kind_of_layer_is_stored_in_its_own_precision() -> None:
    exact = plan_caches(config_with((8, None, 8)), context_length=40, chunk=5)
    plan = exact.stored("per_token", "none")
    assert [cache.dtype for cache in plan.layers] == ["int8", "float32", "int8"]
    # Keys and values of two heads: 16 codes, a scale and a zero point, or 16 numbers.
    assert plan.size_bytes == 2 * 2 * (2 * 12 * (16 + 5) + 40 * 64)
    other = exact.stored("none", "per_channel")
    assert [cache.quantization for cache in other.layers] == ["none", "per_channel", "none"]
    assert other.size_bytes == 2 * 2 * (2 * 12 * 64 + 40 * 16)
    assert other.rewind_tokens == exact.rewind_tokens
    # A layer is local by its window, though nothing of it is ever overwritten.
    short = plan_caches(config_with((8, None)), context_length=10, chunk=5)
    assert [c.dtype for c in short.stored("per_token", "none").layers] == ["int8", "float32"]


@pytest.mark.parametrize(
    ("windows", "found"), [((None, None), "has none"), ((8, 8), "every layer of this model has;")]
)
def test_a_choice_between_kinds_that_a_model_does_not_have_is_refused(
    windows: tuple[int | None, ...], found: str
) -> None:
    plan = plan_caches(config_with(windows), context_length=40, chunk=5)
    for name in ("int8-local", "int8-global"):
        message = f"--kv {name}: needs layers with a window .*{found}.* give float32 or int8"
        with pytest.raises(BuildError, match=message):
            check_choice(plan, KvChoice.named(name))  # type: ignore[arg-type]
    check_choice(plan, INT8)


def test_kv_bytes_equal_the_formula_for_every_shape() -> None:
    for name in shapes.NAMES:
        config = shapes.load(name).config
        context = min(config.max_position_embeddings, 8192)
        plan = plan_caches(config, context, chunk=128)
        expected = 0
        for layer in config.layers:
            slots = context if layer.window is None else min(context, layer.window + 127)
            expected += 2 * slots * layer.num_key_value_heads * layer.head_dim * 4
        assert sum(entry.size_bytes for entry in plan.layers) == expected, name


def test_gemma_3_1b_needs_what_the_documentation_says() -> None:
    plan = plan_caches(shapes.load("gemma-3-1b").config, 4096, 128)
    # 4 x 8 MiB + 22 layers x 639 slots x 2 KiB
    assert sum(entry.size_bytes for entry in plan.layers) == 4 * 2**23 + 22 * 639 * 2048


@pytest.mark.parametrize(
    ("context", "chunk", "message"),
    [
        (101, 4, r"--context 101: the checkpoint was made for at most 100 positions"),
        (0, 1, r"--context 0"),
        (20, 21, r"--chunk 21: the context has 20 positions; give 1 to that"),
        (20, 0, r"--chunk 0"),
    ],
)
def test_impossible_sizes_are_refused(context: int, chunk: int, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        plan_caches(config_with((8, None)), context, chunk)


@pytest.mark.parametrize("rows", [0, 6])
def test_rows_of_logits_are_those_of_a_call(rows: int) -> None:
    config = config_with((8, None))
    with pytest.raises(BuildError) as caught:
        plan_caches(config, context_length=40, chunk=5, logits_rows=rows)
    assert str(caught.value) == (
        f"--logits-rows {rows}: a call has at most 5 tokens; give 1 to that"
    )
    assert plan_caches(config, context_length=40, chunk=5, logits_rows=5).logits_rows == 5
