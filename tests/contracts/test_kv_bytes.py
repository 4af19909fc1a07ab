"""Key/value bytes of every published shape: formula, cache plan and artifact agree to the byte.

The artifacts are those of the shape's own heads, head size, windows and context; what the caches do
not depend on (hidden size, MLP, vocabulary) is small.
"""

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from edge_build import backends
from edge_build.backend import LoweringInput
from edge_build.backends.executorch.inspection import kv_cache_bytes as pte_cache_bytes
from edge_build.backends.onnx.metadata import kv_cache_bytes as onnx_cache_bytes
from edge_build.kv_cache import plan_caches
from edge_build.kv_scales import KvScales
from edge_build.lowered_cache import user_lowered_cache
from edge_build.quantization.weight import WeightStore
from models import shapes
from models.config import LayerConfig, ModelConfig
from models.weight_shapes import weight_shapes
from runtime_py.manifest import CacheQuantization

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


def one_of_each(config: ModelConfig) -> tuple[LayerConfig, ...]:
    return tuple({layer.window: layer for layer in config.layers}.values())


def formula(config: ModelConfig, context: int, kv: CacheQuantization = "none") -> int:
    # A scale of 4 bytes and a zero point of 1 stand beside the codes of a head.
    head_bytes = config.head_dim + 5 if kv == "per_token" else config.head_dim * 4
    row_bytes = 2 * config.num_key_value_heads * head_bytes
    slots = (
        context if layer.window is None else min(context, layer.window + CHUNK - 1)
        for layer in config.layers
    )
    return row_bytes * sum(slots)


def source(
    config: ModelConfig, folder: Path, options: dict[str, str], longest: int = LONGEST_CONTEXT
) -> LoweringInput:
    shapes_by_name = weight_shapes(config)
    for name, shape in shapes_by_name.items():
        np.save(folder / f"{name}.float.npy", np.ones(shape, dtype=np.float32))
    context = min(config.max_position_embeddings, longest)
    return LoweringInput(
        config=config,
        weights=WeightStore(folder, dict.fromkeys(shapes_by_name)),
        caches=plan_caches(config, context, CHUNK),
        stop_ids=(1,),
        bos_id=2,
        pad_id=0,
        tokenizer_size=64,
        options=options,
        lowered=user_lowered_cache(),
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
@pytest.mark.parametrize("local_cache", ["windowed", "ring"])
def test_onnx_holds_int8_codes_and_no_scales_in_slots_at_32k(
    name: str, local_cache: str, tmp_path: Path
) -> None:
    published = shapes.load(name).config
    config = small(replace(published, layers=one_of_each(published)))
    lowering = source(config, tmp_path, {"local-cache": local_cache}, longest=1 << 15)
    shape = (len(config.layers), config.num_key_value_heads, config.head_dim)
    scales = np.full(shape, 0.01, np.float32)
    lowering = replace(
        lowering,
        caches=lowering.caches.stored("per_channel"),
        kv_scales=KvScales(scales, scales),
    )
    artifact = backends.load("onnx").lower(lowering, tmp_path / "bundle")
    # A quarter of float32: one byte a value.
    expected = formula(config, lowering.caches.context_length) // 4
    assert sum(entry.size_bytes for entry in artifact.caches) == expected
    assert onnx_cache_bytes(tmp_path / "bundle" / artifact.model) == expected
    assert sum(entry.scale_bytes for entry in artifact.caches) == 2 * scales.nbytes
    assert _scale_bytes_in_file(tmp_path / "bundle" / artifact.model) == 2 * scales.nbytes


def _scale_bytes_in_file(model: Path) -> int:
    initializers = onnx_ir.load(model).graph.initializers
    scales = [v.const_value for k, v in initializers.items() if k.startswith("cache_scales.")]
    return sum(scale.nbytes for scale in scales if scale is not None)


@pytest.mark.parametrize("kind", ["per_channel", "per_token"])
def test_int8_caches_of_gemma_3_1b_at_32k_fit_into_80_mb(kind: CacheQuantization) -> None:
    plan = plan_caches(shapes.load("gemma-3-1b").config, 1 << 15, CHUNK).stored(kind)
    # 4 layers of 32,768 slots and 22 of 512 + 127, one head of 256 channels.
    row_bytes = 256 + (5 if kind == "per_token" else 0)
    assert plan.size_bytes == 2 * (4 * 32_768 + 22 * 639) * row_bytes <= 80e6


@pytest.mark.parametrize("name", shapes.NAMES)
def test_executorch_holds_what_the_formula_says(name: str) -> None:
    published = shapes.load(name).config
    layers = one_of_each(published)
    config = small(replace(published, layers=layers))
    context = min(config.max_position_embeddings, LONGEST_CONTEXT)
    in_plan, in_file = _lowered_to_executorch(
        config.num_key_value_heads, config.head_dim, layers, context
    )
    assert in_plan == in_file == formula(config, context)


@pytest.mark.parametrize("name", ["gemma-3-1b", "qwen3-0.6b"])
def test_executorch_holds_int8_codes_and_scales_in_slots_at_32k(name: str) -> None:
    published = shapes.load(name).config
    layers = one_of_each(published)
    config = small(replace(published, layers=layers))
    in_plan, in_file = _lowered_to_executorch(
        config.num_key_value_heads, config.head_dim, layers, 1 << 15, "per_token"
    )
    assert in_plan == in_file == formula(config, 1 << 15, "per_token")


@cache
def _lowered_to_executorch(
    heads: int,
    head_dim: int,
    layers: tuple[LayerConfig, ...],
    context: int,
    kv: CacheQuantization = "none",
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
        lowering = source(config, folder, {}, longest=context)
        lowering = replace(lowering, caches=lowering.caches.stored(kv))
        artifact = backends.load("executorch").lower(lowering, folder / "bundle")
        in_file = pte_cache_bytes(folder / "bundle" / artifact.model)
    return sum(entry.size_bytes for entry in artifact.caches), in_file
