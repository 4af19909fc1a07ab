"""Ring arithmetic: enough slots, not one too many, and the right position in each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_build.errors import BuildError
from edge_build.kv_cache import plan_caches, ring_capacity, slot_position
from models import shapes
from models.config import LayerConfig, ModelConfig
from runtime_py.manifest import CacheQuantization


def config_with(windows: tuple[int | None, ...], longest: int = 100) -> ModelConfig:
    return ModelConfig(
        model_type="gemma3_text",
        vocab_size=32,
        hidden_size=64,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        layers=tuple(LayerConfig(window, 10000.0) for window in windows),
        rms_norm_eps=1e-6,
        max_position_embeddings=longest,
        attention_scale=0.25,
        activation="gelu_tanh",
    )


def first_missing_key(window: int, chunk: int, capacity: int, tokens: int) -> int | None:
    """Write a ring as a device would, chunk by chunk; return a key that a query misses."""
    slots: dict[int, int] = {}
    for start in range(0, tokens, chunk):
        stop = min(start + chunk, tokens)
        slots.update({position % capacity: position for position in range(start, stop)})
        for query in range(start, stop):
            for key in range(max(0, query - window + 1), query + 1):
                if slots.get(key % capacity) != key:
                    return key
    return None


@pytest.mark.parametrize("window", range(1, 8))
@pytest.mark.parametrize("chunk", range(1, 8))
def test_ring_keeps_every_position_in_the_window_and_one_slot_fewer_does_not(
    window: int, chunk: int
) -> None:
    capacity = ring_capacity(window, chunk, context_length=1000)
    assert first_missing_key(window, chunk, capacity, tokens=60) is None
    if capacity > 1:
        assert first_missing_key(window, chunk, capacity - 1, tokens=60) is not None


@given(st.integers(1, 300), st.integers(1, 200), st.integers(1, 1000))
def test_ring_is_never_larger_than_the_context(window: int, chunk: int, context: int) -> None:
    assert ring_capacity(window, chunk, context) == min(context, window + chunk - 1)


@given(st.integers(1, 64), st.integers(0, 500))
def test_slot_holds_the_newest_position_written_to_it(capacity: int, newest: int) -> None:
    written = {position % capacity: position for position in range(newest + 1)}
    for slot in range(capacity):
        position = slot_position(slot, newest, capacity)
        if slot in written:
            assert position == written[slot]
        else:
            assert position < 0


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 100), st.integers(0, 20))
def test_rewinding_by_up_to_a_chunk_never_shows_a_stale_key(
    window: int, chunk: int, kept: int, back: int
) -> None:
    capacity = ring_capacity(window, chunk, context_length=10_000)
    back = min(back, chunk)
    slots = {position % capacity: position for position in range(kept + back)}
    slots[kept % capacity] = kept  # the next token after rewinding to `kept` tokens
    for slot in range(capacity):
        claimed = slot_position(slot, kept, capacity)
        if 0 <= claimed <= kept and claimed > kept - window:
            assert slots[slot] == claimed


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


def test_kv_bytes_equal_the_formula_for_every_shape() -> None:
    for name in shapes.NAMES:
        config = shapes.load(name).config
        context = min(config.max_position_embeddings, 8192)
        plan = plan_caches(config, context, chunk=128)
        expected = 0
        for layer in config.layers:
            slots = context if layer.window is None else min(context, layer.window + 127)
            expected += 2 * slots * config.num_key_value_heads * config.head_dim * 4
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
