"""What ExecuTorch's kernels really compute, against this project's account of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("executorch")

from pocketlm.edge_build.backends.executorch.lowering import import_operators, quiet_executorch
from pocketlm.edge_build.backends.executorch.parts import (
    MeanNorm,
    QuantizedEmbedding,
    QuantizedLinear,
    SigmoidMLP,
)
from pocketlm.edge_build.quantization.activations import quantize_per_token_asymmetric
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.weight import QuantizedWeight
from pocketlm.models.config import ModelConfig
from pocketlm.models.layers import MLP, RMSNorm
from pocketlm.runtime_py.int4_packing import pack_int4
from tests.kept import kept_bytes
from tests.small_layers import SMALL_LAYER

COLUMNS = 64
SCHEMES = (QuantScheme(4, 32), QuantScheme(4), QuantScheme(8))


class Both(nn.Module):
    """Several modules on the same inputs."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


class Running:
    """A module lowered to XNNPACK, once for its name, and loaded."""

    def __init__(self, name: str, module: nn.Module, example: Tensor, longest: int) -> None:
        import_operators()
        from executorch.extension.pybindings.portable_lib import _load_for_executorch_from_buffer

        # The program is read from it, not copied.
        self.buffer = kept_bytes(__file__, name, lambda: _lowered(module, example, longest))
        self.program = _load_for_executorch_from_buffer(self.buffer)

    def __call__(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = self.program.forward((x,))
        return outputs


def _lowered(module: nn.Module, example: Tensor, longest: int) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    sizes = ({1: torch.export.Dim("tokens", min=1, max=longest)},)
    with torch.no_grad():
        traced = torch.export.export(module.eval(), (example,), dynamic_shapes=sizes)
        lowered = to_edge_transform_and_lower(traced, partitioner=[XnnpackPartitioner()])
    return bytes(lowered.to_executorch().buffer)


def stored(codes: np.ndarray, scales: np.ndarray, scheme: QuantScheme) -> QuantizedWeight:
    packed = pack_int4(codes) if scheme.bits == 4 else codes
    return QuantizedWeight(packed, scales.astype(np.float32), scheme)


@pytest.fixture(scope="module")
def identities() -> Running:
    """Linear layers that return their input as the kernel's activation quantization left it."""
    eye = np.eye(COLUMNS, dtype=np.int8)
    ones = [np.ones((COLUMNS, scheme.groups(COLUMNS))) for scheme in SCHEMES]
    layers = [
        QuantizedLinear(stored(eye, scales, scheme), None)
        for scheme, scales in zip(SCHEMES, ones, strict=True)
    ]
    with quiet_executorch():
        return Running("identities", Both(*layers), torch.zeros(1, 3, COLUMNS), 8)


@pytest.mark.parametrize("kind", ["both signs", "positive", "negative", "offset", "zero"])
def test_activation_rounding_is_xnnpacks_bit_by_bit(identities: Running, kind: str) -> None:
    generator = torch.Generator().manual_seed(11)
    for tokens in range(1, 9):
        for exponent in range(-4, 4):
            x = 10.0**exponent * torch.randn(1, tokens, COLUMNS, generator=generator)
            shaped = {
                "both signs": x,
                "positive": x.abs(),
                "negative": -x.abs(),
                "offset": x + 3.0 * 10.0**exponent,
                "zero": torch.zeros_like(x),
            }[kind]
            expected = quantize_per_token_asymmetric(shaped)
            for found in identities(shaped):
                torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_embeddings_are_exactly_the_stored_rows() -> None:
    generator = np.random.default_rng(3)
    weights = []
    for scheme in SCHEMES:
        top = 2 ** (scheme.bits - 1)
        codes = generator.integers(-top, top, (40, COLUMNS)).astype(np.int8)
        scales = generator.uniform(0.01, 0.1, (40, scheme.groups(COLUMNS)))
        exact = torch.from_numpy(scales).bfloat16().float().numpy()
        weights.append(stored(codes, exact, scheme))
    with quiet_executorch():
        tokens = torch.arange(40).reshape(1, 40)
        # In the lookup's order of bytes, and in that of the head.
        apart, tied = (
            [QuantizedEmbedding(w, is_head) for w in weights] for is_head in (False, True)
        )
        running = Running("embeddings", Both(*apart, *tied), tokens, 64)
    for weight, rows in zip(2 * weights, running(tokens), strict=True):
        np.testing.assert_array_equal(rows[0].numpy(), weight.dequantized())


def test_gelu_stays_the_tanh_gelu_in_the_delegate() -> None:
    layer = replace(SMALL_LAYER, intermediate_size=COLUMNS)
    config = ModelConfig("test", 8, COLUMNS, (layer,), 1e-6, 64, 0.25, "gelu_tanh")
    mlp = MLP(config, 0).eval().requires_grad_(False)
    for name in ("gate_proj", "down_proj"):
        mlp.get_submodule(name).weight.data = torch.eye(COLUMNS)
    mlp.up_proj.weight.data = torch.ones(COLUMNS, COLUMNS) / COLUMNS
    x = torch.linspace(-6, 6, 8 * COLUMNS).reshape(1, 8, COLUMNS)
    expected = mlp(x)
    with quiet_executorch():
        (found,) = Running("mlp", Both(SigmoidMLP(mlp)), x, 8)(x)
    # float32 in other polynomials; the delegate's own gelu is the erf kind, 5e-4 away.
    assert (found - expected).abs().max() < 5e-6


@pytest.mark.parametrize("size", [128, 1152, 257])  # one step, two, and no divisor to cut it at
def test_norms_of_every_length_are_rms_norm(size: int) -> None:
    generator = torch.Generator().manual_seed(7)
    weight, x = torch.rand(size, generator=generator), torch.randn(1, 5, size, generator=generator)
    norm = RMSNorm(size, 1e-6)
    norm.weight.data = weight
    with quiet_executorch():
        running = Running(f"norm of {size}", Both(MeanNorm(weight.numpy(), 1e-6)), x, 8)
    for tokens in (1, 5):
        (found,) = running(x[:, :tokens])
        # float32 sums in another order.
        torch.testing.assert_close(found, norm(x[:, :tokens]).detach(), rtol=2e-6, atol=2e-6)
