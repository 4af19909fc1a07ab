"""The ExecuTorch backend's modules, eagerly, against those that they replace."""

from dataclasses import replace

import numpy as np
import pytest
import torch

# Registers the gather operators of the quantized embedding.
pytest.importorskip("executorch.exir.passes._quant_patterns_and_replacements")

from pocketlm.edge_build.backends.executorch.attention import rotation
from pocketlm.edge_build.backends.executorch.parts import (
    MeanNorm,
    QuantizedEmbedding,
    QuantizedLinear,
    SigmoidMLP,
    pair_order,
)
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.weight import QuantizedWeight
from pocketlm.models.config import Activation, ModelConfig, Rotary
from pocketlm.models.layers import MLP, RMSNorm, inverse_frequencies, rotary_tables, rotate
from pocketlm.runtime_py.int4_packing import pack_int4
from tests.small_layers import SMALL_LAYER

ROWS, COLUMNS = 6, 64


def quantized(scheme: QuantScheme) -> QuantizedWeight:
    generator = np.random.default_rng(3)
    top = 2 ** (scheme.bits - 1)
    codes = generator.integers(-top, top, (ROWS, COLUMNS)).astype(np.int8)
    scales = generator.uniform(0.01, 0.1, (ROWS, scheme.groups(COLUMNS))).astype(np.float32)
    exact = torch.from_numpy(scales).bfloat16().float().numpy()
    return QuantizedWeight(pack_int4(codes) if scheme.bits == 4 else codes, exact, scheme)


def test_pair_order_puts_the_two_channels_of_a_rotation_side_by_side() -> None:
    assert pair_order(8, 8, 2).tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert pair_order(8, 4, 2).tolist() == [0, 2, 1, 3, 4, 5, 6, 7, 8, 10, 9, 11, 12, 13, 14, 15]


@pytest.mark.parametrize(("theta", "factor"), [(1e4, 1.0), (1e6, 8.0)])
def test_rotation_in_pair_order_is_the_decoders_rotation(theta: float, factor: float) -> None:
    size = 32
    positions = torch.tensor([0, 1, 511, 4095, 32767])
    frequencies = inverse_frequencies(Rotary(theta, factor, size))
    x = torch.randn(1, 5, 3, size, generator=torch.Generator().manual_seed(0))
    expected = rotate(x, *rotary_tables(positions, frequencies))
    order = pair_order(size, size, 1)
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(size // 2)
    cosines, sines = rotation(positions, frequencies.double().repeat_interleave(2), signs)
    paired = x[..., order]
    swapped = paired.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    # One rounding of float32 around values of at most 4.
    assert (paired * cosines + swapped * sines - expected[..., order]).abs().max() < 1e-6


def test_norm_with_a_linear_mean_is_rms_norm() -> None:
    norm = RMSNorm(COLUMNS, 1e-6)
    weight = torch.rand(COLUMNS, generator=torch.Generator().manual_seed(0))
    norm.weight.data = weight
    x = torch.randn(1, 5, COLUMNS, generator=torch.Generator().manual_seed(1))
    # float32 sums in another order.
    torch.testing.assert_close(MeanNorm(weight.numpy(), 1e-6)(x), norm(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", ["gelu_tanh", "silu"])
def test_an_activation_by_sigmoid_is_the_decoders(activation: Activation) -> None:
    layer = replace(SMALL_LAYER, intermediate_size=96)
    config = ModelConfig("test", 8, COLUMNS, (layer,), 1e-6, 64, 0.25, activation)
    torch.manual_seed(0)
    mlp = MLP(config, 0).eval()
    x = 20 * torch.randn(1, 5, COLUMNS)
    expected, found = mlp(x), SigmoidMLP(mlp)(x)
    # The two are the same function; the erf gelu differs by 5e-4.
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize("scheme", [QuantScheme(4, 32), QuantScheme(4), QuantScheme(8)])
def test_linear_multiplies_with_the_stored_weight(scheme: QuantScheme) -> None:
    weight = quantized(scheme)
    rows = np.array([5, 0, 3])
    linear = QuantizedLinear(weight, rows)
    np.testing.assert_array_equal(linear.weight().numpy(), weight.dequantized()[rows])


def test_embedding_scales_take_half_the_bytes_where_nothing_is_lost() -> None:
    weight = quantized(QuantScheme(4, 32))
    assert QuantizedEmbedding(weight, False).scales.dtype == torch.float16
    tiny = QuantizedWeight(weight.packed, weight.scales * np.float32(2**-30), weight.scheme)
    assert QuantizedEmbedding(tiny, False).scales.dtype == torch.float32


@pytest.mark.parametrize("scheme", [QuantScheme(4, 32), QuantScheme(4), QuantScheme(8)])
def test_a_table_that_is_the_head_gives_the_same_rows_from_the_heads_bytes(
    scheme: QuantScheme,
) -> None:
    weight = quantized(scheme)
    tokens = torch.tensor([[5, 0, 3, 3]])
    apart, tied = (QuantizedEmbedding(weight, is_head) for is_head in (False, True))
    assert tied.codes.numpy().tobytes() == weight.packed.tobytes()
    assert torch.equal(tied(tokens), apart(tokens))


def test_groups_of_8_bits_are_refused() -> None:
    with pytest.raises(BuildError, match="one scale per channel"):
        QuantizedLinear(quantized(QuantScheme(8, 32)), None)
