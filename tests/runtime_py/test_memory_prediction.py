"""What a run will hold, against figures worked out by hand."""

from dataclasses import replace
from math import ceil, exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.edge_build import backends
from pocketlm.edge_build.planned_bundle import BuildChoices, plan_bundle
from pocketlm.models import shapes
from pocketlm.runtime_py import engines, memory_prediction
from pocketlm.runtime_py.engines import load_memory
from pocketlm.runtime_py.manifest import CacheEntry, TensorEntry
from pocketlm.runtime_py.memory_parts import PARTS
from pocketlm.runtime_py.memory_prediction import Positions, Prediction, full_context, predict
from tests.small_memory import (
    FLOATS,
    GLOBAL,
    NORM,
    QUERY,
    RING,
    TABLE,
    TENSORS,
    small_memory,
)

PAGE, WINDOW = 4096, 65536
HUNDRED = Positions(tokens=100, longest_call=20, rows=frozenset(range(30)))


def predicted(
    backend: str, positions: Positions = HUNDRED, architecture: str = "aarch64"
) -> Prediction:
    return predict(small_memory(), backend, positions, architecture)


def test_every_backend_can_be_predicted() -> None:
    assert all(map(load_memory, backends.names()))


def test_executorch_packs_codes_scales_and_sums_of_channels() -> None:
    # The table is the head too. Norms are no products; a float product stays as it is.
    size, text = load_memory("executorch").packed_bytes(TENSORS)
    assert size == 36_000 + 2_304 + 32_768 + 12 * (1000 + 64 + 128)
    assert text == "71.1 kB of codes and scales + 1,192 channels x 12 bytes"


def test_a_head_of_its_own_leaves_the_table_unpacked() -> None:
    head = replace(TABLE, name="lm_head")
    tensors = (TABLE, NORM, QUERY, head)
    assert load_memory("executorch").packed_bytes(tensors)[0] == 36_000 + 2_304 + 12 * 1064
    assert load_memory("onnx").packed_bytes(tensors)[0] == 32_000 + 2_048 + 8 * 2 * 1064


def test_onnx_packs_codes_and_two_floats_a_block() -> None:
    # 64 columns are two blocks of 32.
    size, text = load_memory("onnx").packed_bytes(TENSORS)
    assert size == 32_000 + 2_048 + 8 * (2_000 + 128) + 32_768
    assert text == "34.0 kB of codes + 2,128 blocks x 8 bytes + 32.8 kB of float32"


@pytest.mark.parametrize(
    ("columns", "group_size", "block", "blocks"),
    [
        (300, None, 128, 3),  # a whole row: blocks of 128, the last one filled up
        (256, 128, 128, 2),
        (192, 96, 32, 6),  # the largest power of two that divides a group
        (1024, 512, 256, 4),  # no block is larger than 256
    ],
)
def test_onnx_blocks_are_powers_of_two(
    columns: int, group_size: int | None, block: int, blocks: int
) -> None:
    tensor = TensorEntry("embed_tokens", (10, columns), 4, group_size, 0, None, "")
    codes_bytes = 10 * blocks * block // 2
    assert load_memory("onnx").packed_bytes([tensor])[0] == codes_bytes + 8 * 10 * blocks
    # A row: codes, a float scale a block, and half a byte of zero point a block.
    assert load_memory("onnx").table_row_bytes(tensor) == (
        blocks * block / 2,
        4 * blocks,
        ceil(blocks / 2),
    )


def test_a_row_of_the_table_lies_in_each_array() -> None:
    assert load_memory("executorch").table_row_bytes(TABLE) == (32, 2 * 2)
    assert load_memory("executorch").table_row_bytes(replace(TABLE, bits=8, group_size=None)) == (
        64,
        2,
    )
    assert load_memory("onnx").table_row_bytes(TABLE) == (32, 4 * 2, 1)
    for runtime in map(load_memory, engines.names()):
        assert runtime.table_row_bytes(replace(FLOATS, name="embed_tokens")) == (256,)


def test_x86_adds_up_the_heads_blocks_apart_while_loading() -> None:
    # The head's codes, and scales and zero points of both products: 4 x 2 + 1 bytes a row.
    scales = 9 * 1000 + 9 * 64
    arm, text = load_memory("onnx").load_transient(TENSORS, "aarch64")
    assert arm == 32_000 + scales
    assert text == "32.0 kB of the head's file pages while it is packed + 9.6 kB of all scales"
    x86, text = load_memory("onnx").load_transient(TENSORS, "x86_64")
    assert x86 == arm + 4 * 1000 * 2
    assert text.endswith(" + 8.0 kB of sums")


def test_executorch_has_the_heads_pages_while_loading() -> None:
    size, _ = load_memory("executorch").load_transient(TENSORS, "x86_64")
    assert 0.9 * 36_000 < size < 36_000


@pytest.mark.parametrize(
    ("backend", "global_runs", "ring_runs"),
    # Runs of positions that lie side by side: keys and values, of each head where heads lie apart.
    [("executorch", 2, 2), ("onnx", 4, 4)],
)
def test_caches_are_resident_as_far_as_they_were_written(
    backend: str, global_runs: int, ring_runs: int
) -> None:
    found = predicted(backend)
    # 100 of 1000 positions, and all 50 of the ring, in pages for each run.
    assert found.of("KV cache, global") == global_runs * PAGE * ceil(51_200 / global_runs / PAGE)
    assert found.of("KV cache, rings") == ring_runs * PAGE * ceil(25_600 / ring_runs / PAGE)
    (ring,) = (part for part in found.parts if part.part == "KV cache, rings")
    assert ring.arithmetic == "1 layers x 50 positions x 512 bytes"


def test_pages_of_caches_worked_out() -> None:
    assert predicted("executorch").of("KV cache, global") == 2 * 7 * PAGE
    assert predicted("onnx").of("KV cache, global") == 4 * 4 * PAGE
    assert predicted("onnx").of("KV cache, rings") == 4 * 2 * PAGE


@given(
    capacity=st.integers(1, 5000),
    tokens=st.integers(1, 10_000),
    heads=st.integers(1, 16),
    head_dim=st.sampled_from([1, 32, 80, 256]),
    int8=st.booleans(),
    backend=st.sampled_from(engines.names()),
)
def test_touched_pages_are_between_the_bytes_and_the_whole_cache(
    capacity: int, tokens: int, heads: int, head_dim: int, int8: bool, backend: str
) -> None:
    kind = {"dtype": "int8", "quantization": "per_token"} if int8 else {}
    cache = replace(CacheEntry("linear", capacity, None, heads, head_dim), **kind)  # type: ignore[arg-type]
    runtime = load_memory(backend)
    found = memory_prediction._touched_bytes(runtime, cache, tokens)
    runs = 2 * heads if runtime.heads_apart else 2
    written = cache.size_bytes * min(tokens, capacity) // capacity
    assert written <= found <= runs * PAGE * ceil(cache.size_bytes / runs / PAGE)
    assert found % PAGE == 0 and found < written + runs * PAGE


def test_rows_that_are_near_each_other_share_their_windows() -> None:
    # Rows of 2048 bytes of codes and 256 of scales: 32 and 256 rows in 64 KiB.
    table = TensorEntry("embed_tokens", (1024, 4096), 4, 32, 0, None, "")
    inputs = small_memory((table, QUERY))

    def rows(ids: frozenset[int] | int) -> int:
        positions = replace(HUNDRED, rows=ids)
        return predict(inputs, "executorch", positions, "aarch64").of("embedding rows")

    # Codes in windows 0, 1, 7 and 8; scales in 0 and 1.
    assert rows(frozenset({0, 31, 32, 255, 256})) == (4 + 2) * WINDOW
    assert rows(frozenset({5})) == 2 * WINDOW
    # Of 32 and 4 windows, so many are met by 40 rows at random.
    assert rows(40) == (ceil(32 * (1 - exp(-40 / 32))) + ceil(4 * (1 - exp(-10)))) * WINDOW
    assert rows(10**9) == (32 + 4) * WINDOW


def test_a_small_table_is_one_window() -> None:
    assert predicted("executorch").of("embedding rows") == 2 * WINDOW
    assert predicted("onnx").of("embedding rows") == 3 * WINDOW


OTHERS = 8 * 20 + 3 * 64


def test_activations_of_executorch_are_planned_memory_and_a_workspace() -> None:
    # 2 x (64 + 128 queries + 64), a pair of tables of 32 columns, and a mask of 50 slots; without
    # the 1024 logits, which lie there too. 20 positions, and 64 bytes past each of three memories.
    planned = 2 * (64 + 128 + 64) + 64 + 50
    for architecture, workspace in (("x86_64", 64), ("aarch64", 192)):
        found = predicted("executorch", architecture=architecture).of("activations")
        assert found == 80 * planned + OTHERS - 4 * 1024 + 80 * workspace
    # No call is longer than the run.
    short = predicted("executorch", Positions(tokens=5, longest_call=20, rows=5))
    assert short.of("activations") == (80 * planned + OTHERS - 4 * 1024) // 4 + 20 * 192


def test_capped_scores_lie_in_executorchs_workspace() -> None:
    inputs = small_memory(attention_softcap=50.0)
    found = predict(inputs, "executorch", HUNDRED, "aarch64").of("activations")
    # A third residual and a whole mask for each window; scores of 4 heads.
    planned = 3 * 64 + 2 * (128 + 64) + 64 + 2 * 1000
    assert found == 80 * planned + OTHERS - 4 * 1024 + 80 * 4 * 1000


def test_what_a_program_plans_stands_in_place_of_the_formula() -> None:
    inputs = small_memory()
    choices = replace(inputs.backends["executorch"], planned_bytes=50_000)
    built = replace(inputs, backends={"executorch": choices})
    found = predict(built, "executorch", HUNDRED, "aarch64")
    (part,) = (part for part in found.parts if part.part == "activations")
    assert part.size_bytes == 50_000 - 4 * 1024 + 80 * 192
    assert part.arithmetic == (
        "planned by the artifact, less what logits take, for 20 of 20 tokens + "
        "20 tokens x 4 bytes x 192 in the MLP"
    )


def test_activations_of_onnx_are_those_of_mlp_and_attention() -> None:
    # 20 tokens x 4 bytes x (3 x 128 in the MLP, 2 x 64, 7.5 x 128 queries and 4 x 64 of keys).
    assert predicted("onnx").of("activations") == 80 * (384 + 128 + 960 + 256)


@pytest.mark.parametrize(
    ("shape", "layers", "backend", "architecture", "measured_mb"),
    [
        # Calls of 128 tokens, context 1024, random weights.
        ("qwen3-0.6b", 4, "executorch", "x86_64", 4.24),
        ("qwen3-0.6b", 4, "onnx", "x86_64", 24.09),
        ("gemma-2-2b", 2, "executorch", "x86_64", 11.14),
        ("gemma-2-2b", 2, "onnx", "x86_64", 30.68),
        # benchmarks/results/2026-11-22-device-ledger-gemma-3-270m.json
        ("gemma-3-270m", 18, "executorch", "aarch64", 3.35),
        ("gemma-3-270m", 18, "onnx", "aarch64", 10.38),
    ],
)
def test_activations_of_published_shapes_are_within_the_band(
    shape: str, layers: int, backend: str, architecture: str, measured_mb: float
) -> None:
    config = shapes.load(shape).config
    config = replace(config, layers=config.layers[:layers])
    inputs = plan_bundle(shape, config, BuildChoices("int4-g32", context_length=1024))
    positions = Positions(576, 128, 400)
    found = predict(inputs, backend, positions, architecture).of("activations")
    # Half of the band: what is measured varies by some tenths of a megabyte.
    assert abs(found - measured_mb * 1e6) < max(1_000_000, 0.05 * measured_mb * 1e6)


def test_unfused_attention_keeps_scores() -> None:
    fused, unfused = (
        predict(small_memory(attention=name), "onnx", HUNDRED, "aarch64").of("activations")
        for name in ("fused", "unfused")
    )
    # Of 4 heads and the widest cache.
    assert unfused - fused == 80 * 4 * 1000


def test_the_whole_context_has_as_many_different_tokens_as_texts_do() -> None:
    assert full_context(small_memory()) == Positions(1000, 20, ceil(8 * 1000**0.6))
    assert full_context(small_memory(context_length=4)) == Positions(4, 20, 4)
    # No more than there are.
    assert full_context(small_memory(context_length=10**6)).rows == 1000


def test_sums_and_peak() -> None:
    found = predicted("executorch")
    assert found.dirty_bytes + found.clean_bytes == found.resident_bytes
    assert found.clean_bytes == sum(
        found.of(part) for part in ("weights, mapped", "embedding rows", "runtime code")
    )
    assert found.of("logits") == 4 * 1024
    assert found.peak_bytes == max(found.resident_bytes, found.load_peak_bytes)
    assert {part.part for part in found.parts} <= set(PARTS)


def test_code_is_of_the_architecture_and_of_arm_where_it_is_unknown() -> None:
    sizes = {
        name: predicted("onnx", architecture=name).of("runtime code")
        for name in ("aarch64", "x86_64", "riscv64")
    }
    assert sizes["riscv64"] == sizes["aarch64"] != sizes["x86_64"]


def test_packed_weights_in_a_file_are_clean_and_load_without_a_peak() -> None:
    plain = predicted("executorch")
    mapped = predict(small_memory(), "executorch", HUNDRED, "aarch64", packed_cache=True)
    packed = plain.of("weights, packed")
    assert mapped.of("weights, packed") == packed
    assert plain.dirty_bytes - mapped.dirty_bytes == packed
    assert mapped.resident_bytes == plain.resident_bytes
    transient, _ = load_memory("executorch").load_transient(TENSORS, "aarch64")
    assert plain.load_peak_bytes - mapped.load_peak_bytes == transient


def _sizes(found: Prediction) -> dict[str, int]:
    return {part.part: part.size_bytes for part in found.parts}


@given(
    backend=st.sampled_from(engines.names()),
    tokens=st.integers(1, 2000),
    more=st.integers(0, 2000),
    call=st.integers(1, 100),
    rows=st.integers(0, 1000),
    attention=st.sampled_from(["fused", "unfused"]),
)
def test_further_never_takes_less(
    backend: str, tokens: int, more: int, call: int, rows: int, attention: str
) -> None:
    inputs = small_memory(attention=attention)
    near = Positions(tokens, call, rows)
    far = Positions(tokens + more, call + more, rows + more)
    before, after = (_sizes(predict(inputs, backend, at, "aarch64")) for at in (near, far))
    for part, size in before.items():
        assert after[part] >= size, part


@given(st.frozensets(st.integers(0, 999), max_size=50), st.frozensets(st.integers(0, 999)))
def test_more_rows_never_take_less(rows: frozenset[int], more: frozenset[int]) -> None:
    few, many = (
        predicted("onnx", replace(HUNDRED, rows=ids)).of("embedding rows")
        for ids in (rows, rows | more)
    )
    assert few <= many


def test_layers_of_one_kind_are_one_line() -> None:
    inputs = small_memory()
    only_rings = replace(inputs.backends["executorch"], caches=(RING, RING))
    found = predict(
        replace(inputs, backends={"executorch": only_rings}), "executorch", HUNDRED, "aarch64"
    )
    assert found.of("KV cache, global") == 0
    assert found.of("KV cache, rings") == 2 * 2 * 4 * PAGE
    assert GLOBAL.size_bytes == 512_000
