"""Rounding of queries, keys and values for the eager reference, and in ExecuTorch's kernels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.quantization.activations import (
    Rounding,
    attention_rounding,
    quantize_per_channel_symmetric,
    quantize_per_row_asymmetric,
)
from pocketlm.runtime_py.manifest import AttentionQuantization, CacheEntry

HEADS, SIZE = 2, 8
REALS = st.floats(-1e4, 1e4, width=32)


def example(seed: int, heads: int = HEADS) -> torch.Tensor:
    return torch.randn(1, 5, heads, SIZE, generator=torch.Generator().manual_seed(seed))


@given(st.lists(REALS, min_size=SIZE, max_size=SIZE))
def test_rows_are_within_a_step_and_hold_zero(values: list[float]) -> None:
    x = torch.tensor([[*values, 0.0]])
    rounded = quantize_per_row_asymmetric(x)
    span = max(*values, 0.0) - min(*values, 0.0)
    # Half a step for the code and half for the zero point; steps are never below 6.1e-5.
    assert float((rounded - x).abs().max()) <= 1.01 * max(span / 255, 6.1e-5)
    assert float(rounded[0, -1]) == 0.0


@settings(max_examples=50)
@given(st.lists(REALS, min_size=SIZE, max_size=SIZE), st.floats(2**-10, 2**10, width=32))
def test_channels_are_within_half_a_step_or_saturate(values: list[float], scale: float) -> None:
    x = torch.tensor(values).expand(HEADS, SIZE)
    rounded = quantize_per_channel_symmetric(x, torch.full((HEADS, SIZE), scale))
    nearest = x.clamp(-128 * scale, 127 * scale)
    assert bool(((rounded - nearest).abs() <= 0.501 * scale).all())


def test_each_kind_rounds_what_it_says() -> None:
    query, key, value = example(1, 4), example(2), example(3)
    scales = KvScales(*((np.full((HEADS, SIZE), s, np.float32),) for s in (0.5, 0.25)))

    def rounded(kind: AttentionQuantization) -> tuple[torch.Tensor, ...]:
        rounding = attention_rounding(kind, scales)
        return rounding.query(0, query), *rounding.key_value(0, key, value)

    assert all(a is b for a, b in zip(rounded("none"), (query, key, value), strict=True))
    found = rounded("kv_per_channel")
    assert found[0] is query
    assert torch.equal(found[1], torch.round(key / 0.5) * 0.5)
    assert torch.equal(found[2], torch.round(value / 0.25) * 0.25)
    by_token = tuple(quantize_per_row_asymmetric(x) for x in (query, key, value))
    found = rounded("kv_per_token")
    assert found[0] is query and torch.equal(found[1], by_token[1])
    found = rounded("qkv_per_token")
    assert all(torch.equal(a, b) for a, b in zip(found, by_token, strict=True))


@pytest.mark.parametrize("kind", ["kv_per_channel", "kv_per_token", "qkv_per_token"])
def test_nothing_is_rounded_in_layers_with_float32_caches(kind: AttentionQuantization) -> None:
    query, key, value = example(1, 4), example(2), example(3)
    one = np.full((HEADS, SIZE), 0.5, np.float32)
    scales = KvScales((one, one), (one, one))
    mixed, all_coded = (attention_rounding(kind, scales, whole) for whole in ((0,), ()))
    assert mixed.query(0, query) is query
    found = mixed.key_value(0, key, value)
    assert found[0] is key and found[1] is value
    assert torch.equal(mixed.query(1, query), all_coded.query(1, query))
    for mine, theirs in zip(
        mixed.key_value(1, key, value), all_coded.key_value(1, key, value), strict=True
    ):
        assert torch.equal(mine, theirs) and not torch.equal(mine, key)


def test_a_rounding_knows_the_caches_that_stay_whole() -> None:
    coded = CacheEntry("linear", 8, None, 1, 4, "int8", "per_token")
    whole = CacheEntry("ring", 6, 4, 1, 4)
    found = Rounding.over((whole, coded, whole), "per_token_asymmetric", "qkv_per_token")
    assert found == Rounding("per_token_asymmetric", "qkv_per_token", (0, 2))
    assert found.of_attention == Rounding("none", "qkv_per_token", (0, 2))
    # With float32 caches only, there is one way for every backend.
    assert Rounding.over((whole,), "none", "none") == Rounding()


def test_rows_are_rounded_as_executorch_does_bit_by_bit() -> None:
    pytest.importorskip("executorch")
    from pocketlm.edge_build.backends.executorch.lowering import import_operators, quiet_executorch

    class Rows(torch.nn.Module):
        """Codes, scales and zero points, as attention over int8 caches reads them."""

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            library = torch.ops.quantized_decomposed
            chosen = library.choose_qparams_per_token_asymmetric.default(x, torch.int8)
            codes = library.quantize_per_token(x, *chosen, -128, 127, torch.int8)
            return codes, chosen[0].to(torch.float32), chosen[1].to(torch.int8)

    x = torch.randn(400, 64, generator=torch.Generator().manual_seed(0))
    x[:50] += 3
    x[50:100] -= 3
    x[100:110] = 0
    x[110:150] *= 1e-4
    x[150:170] *= 1e-9
    x[170:250] = torch.round(x[170:250] * 8) / 8
    with quiet_executorch():
        import_operators()
        from executorch.exir import EdgeCompileConfig, to_edge
        from executorch.extension.pybindings.portable_lib import _load_for_executorch_from_buffer

        # The rounding operators have no schema in the edge dialect.
        unchecked = EdgeCompileConfig(_check_ir_validity=False)
        edge = to_edge(torch.export.export(Rows(), (x,)), compile_config=unchecked)
        buffer = edge.to_executorch().buffer  # the program is read from it, not copied
        codes, scales, zero_points = _load_for_executorch_from_buffer(buffer).forward((x,))
    expected = (codes.float() - zero_points.float()) * scales
    assert torch.equal(quantize_per_row_asymmetric(x), expected)
