"""A checkpoint's own codes on our schemes: kept where they fit, fitted anew where they do not."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization.apply import QuantizedModel, quantize_weights
from pocketlm.edge_build.quantization.own_grid import find_grid, held
from pocketlm.edge_build.quantization.quality import kept_grid_notes
from pocketlm.edge_build.quantization.recipe import OWN_GRID_METHOD, QuantRule, QuantScheme
from pocketlm.models.checkpoint import Checkpoint, open_checkpoint
from pocketlm.models.stored_grid import GridRows
from pocketlm.runtime_py.manifest import OwnGridEntry
from tests.coded_checkpoints import (
    CodedCheckpoint,
    awq_checkpoint,
    compressed_checkpoint,
    float_checkpoint,
    gguf_checkpoint,
    gptq_checkpoint,
)

UP, OURS = "model.layers.1.mlp.up_proj", "layers.1.mlp.up_proj"
GROUPS = OwnGridEntry(256, 256, 256, 256)  # of a weight [128, 64] in groups of 32
Write = Callable[[Path, Path], CodedCheckpoint]


def own(bits: int, group: int | None, **more: Any) -> QuantScheme:
    return QuantScheme(bits, group, OWN_GRID_METHOD, **more)


def quantize(checkpoint: Checkpoint, scheme: QuantScheme, folder: Path) -> QuantizedModel:
    folder.mkdir()
    rules = {name: QuantRule(name, None, "") for name in checkpoint.names()}
    return quantize_weights(
        checkpoint, {**rules, OURS: QuantRule(OURS, scheme, "")}, folder, silent
    )


def kept(model: QuantizedModel) -> OwnGridEntry:
    (entry,) = (tensor.own_grid for tensor in model.tensors if tensor.name == OURS)
    assert entry is not None
    return entry


FLOAT32 = {"scale_dtype": "float32"}
ZEROS = {"zero_points": True, "scale_dtype": "float32"}
signed = partial(float_checkpoint, group=32, signed=True, extremum=-8)
# Format, the scheme that holds it, and what a whole checkpoint of it is on.
EXACT: dict[str, tuple[Write, QuantScheme]] = {
    "trained as Q4_0, bfloat16": (
        partial(signed, dtype=torch.bfloat16, scale="bfloat16"),
        own(4, 32, **ZEROS),
    ),
    "trained as Q4_0, float16": (partial(signed, dtype=torch.float16), own(4, 32, **ZEROS)),
    "trained as Q4_0, float32": (partial(signed, dtype=torch.float32), own(4, 32, **ZEROS)),
    "trained by channel": (
        partial(float_checkpoint, dtype=torch.bfloat16, group=None, extremum=7, scale="bfloat16"),
        own(4, None),
    ),
    "trained in 8 bits": (
        partial(float_checkpoint, dtype=torch.float32, group=None, bits=8, extremum=127),
        own(8, None, **FLOAT32),
    ),
    "GPTQ": (partial(gptq_checkpoint, group=32), own(4, 32, **FLOAT32)),
    "GPTQ v2 with zero points": (
        partial(gptq_checkpoint, group=32, version=2, symmetric=False),
        own(4, 32, **ZEROS),
    ),
    "AWQ": (partial(awq_checkpoint, group=32), own(4, 32, **ZEROS)),
    "AWQ by channel, in 8 bits": (partial(awq_checkpoint, group=None), own(8, None, **FLOAT32)),
    "compressed-tensors": (partial(compressed_checkpoint, group=32), own(4, 32)),
    "compressed-tensors with zero points": (
        partial(compressed_checkpoint, group=32, symmetric=False),
        own(4, 32, zero_points=True),
    ),
    "8 bits with the code -128": (
        partial(compressed_checkpoint, group=32, bits=8),
        own(8, 32, zero_points=True),
    ),
    "groups of a channel's scale": (
        partial(compressed_checkpoint, group=None),
        own(4, 32),
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_all_codes_and_scales_are_kept(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    write, scheme = EXACT[name]
    written = write(tiny_checkpoint("qwen3"), tmp_path / "coded")
    checkpoint = open_checkpoint(written.path)
    model = quantize(checkpoint, scheme, tmp_path / "store")
    entry = kept(model)
    assert entry.groups == entry.on_grid == entry.codes_kept == entry.kept
    codes = written.weights[UP]
    weight = model.weights.quantized(OURS)
    np.testing.assert_array_equal(weight.dequantized(), codes.rows.dequantized())
    zeros = np.zeros_like(weight.scales) if weight.zero_points is None else weight.zero_points
    groups = weight.scales.shape[1]
    counted = weight.codes().reshape(len(zeros), groups, -1).astype(int) - zeros[..., None]
    times = groups // codes.scales.shape[1]
    sign = np.sign(codes.scales).repeat(times, axis=1)[..., None]
    expected = codes.rows.integers.reshape(counted.shape) * sign
    np.testing.assert_array_equal(counted, expected)
    np.testing.assert_array_equal(weight.scales, np.abs(codes.scales).repeat(times, axis=1))


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_all_codes_and_scales_of_a_gguf_file_are_kept(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    written = gguf_checkpoint(tiny_checkpoint("qwen3"), tmp_path / "tiny.gguf", kind)
    scheme = own(4, 32, **ZEROS) if kind == "Q4_0" else own(8, 32, **FLOAT32)
    model = quantize(open_checkpoint(written.path), scheme, tmp_path / "store")
    assert kept(model) == GROUPS
    weight = model.weights.quantized(OURS)
    np.testing.assert_array_equal(weight.scales, np.abs(written.weights[UP].scales))
    np.testing.assert_array_equal(weight.dequantized(), written.weights[UP].rows.dequantized())


def test_a_symmetric_grid_keeps_the_groups_of_q4_0_that_fit_and_fits_the_others_anew(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    written = gguf_checkpoint(tiny_checkpoint("qwen3"), tmp_path / "tiny.gguf", "Q4_0")
    model = quantize(open_checkpoint(written.path), own(4, 32), tmp_path / "store")
    codes = written.weights[UP]
    # A negative scale turns the extremum -8 to 8, which four bits do not hold.
    fits = codes.scales > 0
    entry = kept(model)
    assert (entry.groups, entry.on_grid, entry.codes_kept) == (256, 256, int(fits.sum()))
    # Scales of float16 are none of bfloat16, but for a few.
    assert entry.kept < 0.3 * entry.codes_kept
    weight = model.weights.quantized(OURS)
    found = weight.dequantized().reshape(128, 2, 32)
    expected = codes.rows.dequantized().reshape(128, 2, 32)
    np.testing.assert_allclose(found[fits], expected[fits], rtol=2**-8)
    # Not worse than the own codes with 8 cut to 7: an eighth of the extremum.
    error = np.abs(found - expected)[~fits].max(-1) / np.abs(expected)[~fits].max(-1)
    assert error.max() <= 0.13
    exact, note = kept_grid_notes(model.tensors)
    assert exact == "The checkpoint's own codes and scales: 0 weights have all of them exactly."
    share = f"{100 * fits.mean():.1f} % have their own codes"
    assert note.startswith("1 weights on a grid of the checkpoint were fitted to another: 100.0 %")
    assert share in note and "signal to noise ratio" in note and note.endswith(f"in {OURS}.")


def test_groups_that_are_joined_are_fitted_anew(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    written = gguf_checkpoint(tiny_checkpoint("qwen3"), tmp_path / "tiny.gguf", "Q8_0")
    model = quantize(open_checkpoint(written.path), own(8, None), tmp_path / "store")
    assert kept(model) == OwnGridEntry(256, 256, 0, 0)


def test_a_group_off_the_grid_is_rounded_and_counted(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    written = signed(tiny_checkpoint("qwen3"), tmp_path / "coded", dtype=torch.float32)
    path = written.path / "model.safetensors"
    tensors = load_file(path)
    random = torch.Generator().manual_seed(1)
    tensors[f"{UP}.weight"][70, 32:] = torch.randn(32, generator=random)
    save_file(tensors, path)
    model = quantize(open_checkpoint(written.path), own(4, 32, **ZEROS), tmp_path / "store")
    assert kept(model) == OwnGridEntry(256, 255, 255, 255)
    weight = model.weights.quantized(OURS).dequantized(70, 71)
    error = np.abs(weight - tensors[f"{UP}.weight"][70].numpy())[0, 32:]
    assert 0.0 < error.max() < 0.5


def test_rows_of_zeros_at_the_ends_do_not_hide_a_grid(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    written = signed(tiny_checkpoint("qwen3"), tmp_path / "coded", dtype=torch.float32)
    path = written.path / "model.safetensors"
    tensors = load_file(path)
    tensors[f"{UP}.weight"][[0, -1]] = 0
    save_file(tensors, path)
    checkpoint = open_checkpoint(written.path)
    assert find_grid(checkpoint, OURS) is not None
    assert kept(quantize(checkpoint, own(4, 32, **ZEROS), tmp_path / "store")) == GROUPS


@pytest.mark.parametrize("family", ["gemma3_text", "qwen3"])
def test_weights_that_no_grid_was_made_for_are_on_none(
    tiny_checkpoint: Callable[[str], Path], family: str
) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint(family))
    assert [name for name in checkpoint.names() if find_grid(checkpoint, name)] == []


@settings(max_examples=50)
@given(
    codes=arrays(np.int16, (2, 64), elements=st.integers(0, 15)),
    zeros=arrays(np.int16, (2, 2), elements=st.integers(0, 15)),
    scales=arrays(np.float32, (2, 2), elements=st.floats(-1, 1, width=16)),
    kind=st.sampled_from(["random", "zero", "one-sided"]),
)
def test_codes_with_any_zero_point_fit_four_bits_with_one(
    codes: NDArray[np.int16], zeros: NDArray[np.int16], scales: NDArray[np.float32], kind: str
) -> None:
    if kind == "one-sided":
        zeros = np.zeros_like(zeros)
    integers = codes - np.repeat(zeros, 32, axis=1)
    rows = GridRows(np.zeros_like(integers) if kind == "zero" else integers, scales)
    on_grid = np.ones((2, 2), np.bool_)
    found = held(rows, on_grid, own(4, 32, **ZEROS), 1)
    # All codes above a zero point of 0, or below one of 15, with the sign of the scale turned.
    signed = np.where(scales[..., None] < 0, -1, 1) * rows.integers.reshape(2, 2, 32)
    signed = np.where(scales[..., None] == 0, 0, signed)
    representable = (signed.min(-1) >= -15) & (signed.max(-1) <= 15)
    np.testing.assert_array_equal(found.fits.numpy(), representable)
    counted = found.codes.reshape(2, 2, 32) - found.zero_points.unsqueeze(-1)
    values = (counted * found.scales.unsqueeze(-1)).numpy()
    expected = rows.dequantized().reshape(2, 2, 32)
    np.testing.assert_array_equal(values[representable], expected[representable])
    assert bool((found.scales > 0).all())
