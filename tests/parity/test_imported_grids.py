"""Artifacts of checkpoints on a known grid: their logits are those of the grid's own weights.

Both run without rounded activations, so that nothing but the order of float32 sums differs.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.kv_cache import plan_caches
from pocketlm.edge_build.lowered_cache import user_lowered_cache
from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization.apply import quantize_weights
from pocketlm.edge_build.quantization.own_recipe import find_grids, keep_own_codes, own_recipe
from pocketlm.edge_build.quantization.recipe import QuantScheme
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.models.checkpoint import load_decoder, open_checkpoint
from pocketlm.models.random_checkpoint import write_random_checkpoint
from pocketlm.models.shapes import shape_of
from pocketlm.runtime_py import engines
from tests.artifacts import (
    CHUNK,
    CONTEXT,
    TWO_LAYERS,
    LoweredSource,
    of_layers,
    random_tokens,
    write,
)
from tests.coded_checkpoints import (
    CodedCheckpoint,
    awq_checkpoint,
    compressed_checkpoint,
    gguf_checkpoint,
)

SPLITS = [CHUNK] * (CONTEXT // CHUNK)
TOKENS = random_tokens(sum(SPLITS))


def lowered(path: Path, backend: str, folder: Path) -> LoweredSource:
    """Lower a checkpoint by the recipe of its own grid, and hold it to have kept all."""
    checkpoint = open_checkpoint(path)
    grids, chosen = find_grids(checkpoint), (backends.load(backend),)
    recipe = own_recipe(checkpoint, grids, chosen)
    rules = choose_rules(checkpoint.shapes, recipe)
    # The table is on no grid. So rounded, a program is lowered that other tests have, too.
    rules["embed_tokens"] = replace(rules["embed_tokens"], scheme=QuantScheme(4, 32))
    folder.mkdir()
    kept = keep_own_codes(rules, grids, chosen)
    model = quantize_weights(checkpoint, kept, folder, silent)
    for tensor in model.tensors:
        if tensor.bits < 32 and tensor.name != "embed_tokens":
            assert tensor.own_grid is not None
            assert tensor.own_grid.kept == tensor.own_grid.groups
    source = LoweringInput(
        config=checkpoint.config,
        weights=model.weights,
        caches=plan_caches(checkpoint.config, CONTEXT, CHUNK),
        stop_ids=(1, 106),
        bos_id=2,
        pad_id=0,
        tokenizer_size=4096,
        lowered=user_lowered_cache(),
    )
    return LoweredSource(backend, source, *write(backend, source, folder / "bundle"))


def grid_logits(
    source: Path, written: CodedCheckpoint, built: LoweredSource, folder: Path
) -> np.ndarray:
    """Return the logits of a float checkpoint: known codes times scales, and the built table."""
    tensors = load_file(source / "model.safetensors")
    table = built.source.weights.quantized("embed_tokens").dequantized()
    tensors["model.embed_tokens.weight"] = torch.from_numpy(table)
    for name, codes in written.weights.items():
        tensors[f"{name}.weight"] = torch.from_numpy(codes.rows.dequantized())
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    with torch.no_grad():
        decoder = load_decoder(open_checkpoint(folder))
        found: np.ndarray = decoder(torch.tensor([TOKENS]))[0].numpy()
    return found


def exact_logits(built: LoweredSource) -> np.ndarray:
    exact = engines.load(built.backend).exact
    assert exact is not None
    model = exact.load(built.folder, built.manifest, built.entry, 1)
    rows, position = [], 0
    for length in SPLITS:
        rows.append(model.run(TOKENS[position : position + length], position)[-1])
        position += length
    model.close()
    return np.stack(rows)


Write = Callable[[Path, Path], CodedCheckpoint]
CASES: dict[str, tuple[str, Write]] = {
    "GGUF Q4_0 through zero points": ("onnx", partial(gguf_checkpoint, kind="Q4_0")),
    "AWQ": ("onnx", partial(awq_checkpoint, group=32)),
    "compressed-tensors": ("executorch", partial(compressed_checkpoint, group=32)),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of as many layers as other tests lower."""
    folder = tmp_path_factory.mktemp("checkpoints") / "short"
    published = of_layers("gemma3_text", TWO_LAYERS["gemma3_text"])
    write_random_checkpoint(shape_of("short", published), folder, seed=7)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_grid(source: Path, tmp_path: Path, name: str) -> None:
    backend, write_format = CASES[name]
    if backend == "executorch":
        pytest.importorskip("executorch")
    written = write_format(source, tmp_path / "coded.gguf")
    built = lowered(written.path, backend, tmp_path / "lowered")
    expected = grid_logits(source, written, built, tmp_path / "float")
    found = exact_logits(built)
    ends = np.cumsum(SPLITS) - 1
    # float32 in another order.
    assert np.abs(found - expected[ends]).max() < 1e-4 * expected.std()


def test_zero_points_of_a_grid_are_in_the_file(source: Path, tmp_path: Path) -> None:
    written = gguf_checkpoint(source, tmp_path / "tiny.gguf", "Q4_0")
    graph = lowered(written.path, "onnx", tmp_path / "lowered").graph
    stored = graph.initializers["layers.1.mlp.up_proj.zero_points"].const_value
    assert stored is not None
    packed = stored.numpy()
    # Two blocks a row, the first in the low bits: 8 for a positive scale, 7 for a negative one.
    zeros = np.stack((packed[:, 0] & 15, packed[:, 0] >> 4), axis=1)
    scales = written.weights["model.layers.1.mlp.up_proj"].scales
    np.testing.assert_array_equal(zeros, np.where(scales < 0, 7, 8))
