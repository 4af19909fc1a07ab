"""Key/value bytes of every published shape: formula, cache plan and artifact agree to the byte.

The artifacts are those of the shape's own heads, head size, windows and context; what the caches do
not depend on (hidden size, MLP, vocabulary) is small.
"""

import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.executorch.inspection import kv_cache_bytes as pte_cache_bytes
from pocketlm.edge_build.backends.onnx.metadata import kv_cache_bytes as onnx_cache_bytes
from pocketlm.edge_build.kv_cache import plan_caches
from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.lowered_cache import user_lowered_cache
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.models import shapes
from pocketlm.models.config import LayerConfig, ModelConfig
from pocketlm.models.weight_shapes import weight_shapes
from pocketlm.runtime_py.manifest import CacheQuantization

CHUNK = 128
LONGEST_CONTEXT = 8192


def small(config: ModelConfig) -> ModelConfig:
    layers = (
        replace(layer, intermediate_size=32, num_attention_heads=layer.num_key_value_heads)
        for layer in config.layers
    )
    return replace(
        config, hidden_size=32, vocab_size=64, layers=tuple(layers), tie_word_embeddings=True
    )


def one_of_each(config: ModelConfig) -> tuple[LayerConfig, ...]:
    return tuple({layer.window: layer for layer in config.layers}.values())


def formula(config: ModelConfig, context: int, kv: CacheQuantization = "none") -> int:
    # A scale of 4 bytes and a zero point of 1 stand beside the codes of a head.
    every = config.layers[0]
    head_bytes = every.head_dim + 5 if kv == "per_token" else every.head_dim * 4
    row_bytes = 2 * every.num_key_value_heads * head_bytes
    slots = (
        context if layer.window is None else min(context, layer.window + CHUNK - 1)
        for layer in config.layers
    )
    return row_bytes * sum(slots)


def source(config: ModelConfig, folder: Path, options: dict[str, str]) -> LoweringInput:
    shapes_by_name = weight_shapes(config)
    for name, shape in shapes_by_name.items():
        np.save(folder / f"{name}.float.npy", np.ones(shape, dtype=np.float32))
    return LoweringInput(
        config=config,
        weights=WeightStore(folder, dict.fromkeys(shapes_by_name)),
        caches=plan_caches(config, config.max_position_embeddings, CHUNK),
        stop_ids=(1,),
        bos_id=2,
        pad_id=0,
        tokenizer_size=64,
        options=options,
        lowered=user_lowered_cache(),
    )


@pytest.mark.parametrize("name", shapes.NAMES)
@pytest.mark.parametrize("local_cache", ["windowed", "ring"])
def test_onnx_holds_what_the_formula_says(name: str, local_cache: str) -> None:
    published = shapes.load(name).config
    config = small(replace(published, layers=one_of_each(published)))
    context = min(config.max_position_embeddings, LONGEST_CONTEXT)
    found = _lowered_to_onnx(_caches_of(config, context), local_cache)
    assert found.in_plan == found.in_file == formula(config, context)


@pytest.mark.parametrize("name", shapes.NAMES)
@pytest.mark.parametrize("local_cache", ["windowed", "ring"])
def test_onnx_holds_int8_codes_and_no_scales_in_slots_at_32k(name: str, local_cache: str) -> None:
    published = shapes.load(name).config
    config = small(replace(published, layers=one_of_each(published)))
    context = min(config.max_position_embeddings, 1 << 15)
    found = _lowered_to_onnx(_caches_of(config, context), local_cache, "per_channel")
    # A quarter of float32: one byte a value.
    assert found.in_plan == found.in_file == formula(config, context) // 4
    # float32, of keys and of values.
    every = config.layers[0]
    scales = 2 * len(config.layers) * every.num_key_value_heads * every.head_dim * 4
    assert found.scales_in_plan == found.scales_in_file == scales


@pytest.mark.parametrize("kv", ["none", "per_channel", "per_token"])
@pytest.mark.parametrize("name", shapes.NAMES)
def test_every_layer_of_a_shape_is_in_the_plan(name: str, kv: CacheQuantization) -> None:
    config = shapes.load(name).config
    context = min(config.max_position_embeddings, LONGEST_CONTEXT)
    plan = plan_caches(config, context, CHUNK).stored(kv)
    expected = formula(config, context, kv)
    assert plan.size_bytes == (expected // 4 if kv == "per_channel" else expected)


@pytest.mark.parametrize("kind", ["per_channel", "per_token"])
def test_int8_caches_of_gemma_3_1b_at_32k_fit_into_80_mb(kind: CacheQuantization) -> None:
    plan = plan_caches(shapes.load("gemma-3-1b").config, 1 << 15, CHUNK).stored(kind)
    # 4 layers of 32,768 slots and 22 of 512 + 127, one head of 256 channels.
    row_bytes = 256 + (5 if kind == "per_token" else 0)
    assert plan.size_bytes == 2 * (4 * 32_768 + 22 * 639) * row_bytes <= 80e6


@pytest.mark.parametrize("name", shapes.NAMES)
def test_executorch_holds_what_the_formula_says(name: str) -> None:
    published = shapes.load(name).config
    config = small(replace(published, layers=one_of_each(published)))
    context = min(config.max_position_embeddings, LONGEST_CONTEXT)
    in_plan, in_file = _lowered_to_executorch(_caches_of(config, context))
    assert in_plan == in_file == formula(config, context)


@pytest.mark.parametrize("name", ["gemma-3-1b", "qwen3-0.6b"])
def test_executorch_holds_int8_codes_and_scales_in_slots_at_32k(name: str) -> None:
    published = shapes.load(name).config
    config = small(replace(published, layers=one_of_each(published)))
    in_plan, in_file = _lowered_to_executorch(_caches_of(config, 1 << 15), "per_token")
    assert in_plan == in_file == formula(config, 1 << 15, "per_token")


def _caches_of(config: ModelConfig, context: int) -> ModelConfig:
    """Return the same small model for all shapes with the same caches: it is lowered once."""
    qwen = small(shapes.load("qwen3-0.6b").config)
    return replace(
        qwen,
        layers=config.layers,
        attention_softcap=config.attention_softcap,
        max_position_embeddings=context,
    )


@cache
def _lowered_to_executorch(config: ModelConfig, kv: CacheQuantization = "none") -> tuple[int, int]:
    """Return bytes in the plan and in the file."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lowering = source(config, folder, {})
        lowering = replace(lowering, caches=lowering.caches.stored(kv))
        artifact = backends.load("executorch").lower(lowering, folder / "bundle")
        in_file = pte_cache_bytes(folder / "bundle" / artifact.model)
    return sum(entry.size_bytes for entry in artifact.caches), in_file


@dataclass(frozen=True)
class OnnxBytes:
    in_plan: int
    in_file: int
    scales_in_plan: int
    scales_in_file: int


@cache
def _lowered_to_onnx(
    config: ModelConfig, local_cache: str, kv: CacheQuantization = "none"
) -> OnnxBytes:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lowering = source(config, folder, {"local-cache": local_cache})
        scales = tuple(
            np.full((layer.num_key_value_heads, layer.head_dim), 0.01, np.float32)
            for layer in config.layers
        )
        lowering = replace(
            lowering,
            caches=lowering.caches.stored(kv),
            kv_scales=None if kv == "none" else KvScales(scales, scales),
        )
        artifact = backends.load("onnx").lower(lowering, folder / "bundle")
        model = folder / "bundle" / artifact.model
        return OnnxBytes(
            in_plan=sum(entry.size_bytes for entry in artifact.caches),
            in_file=onnx_cache_bytes(model),
            scales_in_plan=sum(entry.scale_bytes for entry in artifact.caches),
            scales_in_file=_scale_bytes_in_file(model),
        )


def _scale_bytes_in_file(model: Path) -> int:
    initializers = onnx_ir.load(model).graph.initializers
    scales = [v.const_value for k, v in initializers.items() if k.startswith("cache_scales.")]
    return sum(scale.nbytes for scale in scales if scale is not None)
