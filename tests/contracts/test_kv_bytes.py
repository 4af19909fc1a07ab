"""Key/value bytes of every published shape: formula, cache plan and artifact agree to the byte.

The artifacts are those of the shape's own heads, head size, windows and context; what the caches do
not depend on (hidden size, MLP, vocabulary) is small.
"""

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edge_build import backends
from edge_build.backend import LoweringInput
from edge_build.backends.executorch.inspection import kv_cache_bytes as pte_cache_bytes
from edge_build.backends.onnx.metadata import kv_cache_bytes as onnx_cache_bytes
from edge_build.kv_cache import plan_caches
from edge_build.quantization.weight import WeightStore
from models import shapes
from models.config import LayerConfig, ModelConfig
from models.weight_shapes import weight_shapes

CHUNK = 128
LONGEST_CONTEXT = 8192


def small(config: ModelConfig) -> ModelConfig:
    return replace(
        config,
        hidden_size=32,
        intermediate_size=32,
        vocab_size=64,
        num_attention_heads=config.num_key_value_heads,
        tie_word_embeddings=True,
    )


def formula(config: ModelConfig, context: int) -> int:
    row_bytes = 2 * config.num_key_value_heads * config.head_dim * 4
    slots = (
        context if layer.window is None else min(context, layer.window + CHUNK - 1)
        for layer in config.layers
    )
    return row_bytes * sum(slots)


def source(config: ModelConfig, folder: Path, options: dict[str, str]) -> LoweringInput:
    shapes_by_name = weight_shapes(config)
    for name, shape in shapes_by_name.items():
        np.save(folder / f"{name}.float.npy", np.ones(shape, dtype=np.float32))
    context = min(config.max_position_embeddings, LONGEST_CONTEXT)
    return LoweringInput(
        config=config,
        weights=WeightStore(folder, dict.fromkeys(shapes_by_name)),
        caches=plan_caches(config, context, CHUNK),
        stop_ids=(1,),
        bos_id=2,
        pad_id=0,
        tokenizer_size=64,
        options=options,
    )


@pytest.mark.parametrize("name", shapes.NAMES)
@pytest.mark.parametrize("local_cache", ["windowed", "ring"])
def test_onnx_holds_what_the_formula_says(name: str, local_cache: str, tmp_path: Path) -> None:
    published = shapes.load(name).config
    # Two turns of the local and global pattern: the rest repeats it.
    config = small(replace(published, layers=published.layers[:8]))
    lowering = source(config, tmp_path, {"local-cache": local_cache})
    artifact = backends.load("onnx").lower(lowering, tmp_path / "bundle")
    expected = formula(config, lowering.caches.context_length)
    assert sum(entry.size_bytes for entry in artifact.caches) == expected
    assert onnx_cache_bytes(tmp_path / "bundle" / artifact.model) == expected


@pytest.mark.parametrize("name", shapes.NAMES)
def test_executorch_holds_what_the_formula_says(name: str) -> None:
    published = shapes.load(name).config
    one_of_each = tuple({layer.window: layer for layer in published.layers}.values())
    config = small(replace(published, layers=one_of_each))
    context = min(config.max_position_embeddings, LONGEST_CONTEXT)
    in_plan, in_file = _lowered_to_executorch(
        config.num_key_value_heads, config.head_dim, one_of_each, context
    )
    assert in_plan == in_file == formula(config, context)


@cache
def _lowered_to_executorch(
    heads: int,
    head_dim: int,
    layers: tuple[LayerConfig, ...],
    context: int,
) -> tuple[int, int]:
    """Lower once for all shapes with the same caches; return bytes in the plan and in the file."""
    qwen = small(shapes.load("qwen3-0.6b").config)
    config = replace(
        qwen,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        layers=layers,
        max_position_embeddings=context,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        artifact = backends.load("executorch").lower(source(config, folder, {}), folder / "bundle")
        in_file = pte_cache_bytes(folder / "bundle" / artifact.model)
    return sum(entry.size_bytes for entry in artifact.caches), in_file
