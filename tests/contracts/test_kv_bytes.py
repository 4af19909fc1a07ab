"""Key/value bytes of published shapes: formula, cache plan and artifact agree to the byte.

The artifacts are those of the shape's own heads, head size, windows and context; what the caches do
not depend on (hidden size, MLP, vocabulary) is small.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache as once
from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from pocketlm.edge_build import backends
from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.backends.executorch.inspection import inspect_program
from pocketlm.edge_build.backends.onnx.metadata import cache_input_bytes
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


@dataclass(frozen=True)
class Cache:
    """All that the bytes of a layer's cache depend on."""

    window: int | None
    num_key_value_heads: int
    head_dim: int


def caches_of(name: str) -> tuple[Cache, ...]:
    """Return each kind of cache that a published shape has."""
    layers = shapes.load(name).config.layers
    caches = (Cache(x.window, x.num_key_value_heads, x.head_dim) for x in layers)
    return tuple(dict.fromkeys(caches))


@dataclass(frozen=True)
class Model:
    """One small model with the caches of several shapes that attend alike: it is lowered once."""

    names: tuple[str, ...]
    context: int

    @property
    def caches(self) -> tuple[Cache, ...]:
        return tuple(dict.fromkeys(cache for name in self.names for cache in caches_of(name)))

    @property
    def config(self) -> ModelConfig:
        qwen = shapes.load("qwen3-0.6b").config
        layers = (
            replace(
                qwen.layers[0],
                **vars(cache),
                num_attention_heads=cache.num_key_value_heads,
                intermediate_size=32,
            )
            for cache in self.caches
        )
        return replace(
            qwen,
            hidden_size=32,
            vocab_size=64,
            layers=tuple(layers),
            attention_softcap=shapes.load(self.names[0]).config.attention_softcap,
            max_position_embeddings=self.context,
        )


@dataclass(frozen=True)
class Found:
    """Bytes of each of a model's caches."""

    model: Model
    in_plan: tuple[int, ...]
    in_file: tuple[int, ...]

    def of(self, name: str) -> tuple[int, int]:
        """Return bytes in the plan and in the file of a shape's caches."""
        layers = [self.model.caches.index(cache) for cache in caches_of(name)]
        assert len(self.in_plan) == len(self.in_file) == len(self.model.caches)
        in_plan, in_file = (sum(x[i] for i in layers) for x in (self.in_plan, self.in_file))
        return in_plan, in_file


def formula(
    caches: Iterable[Cache | LayerConfig], context: int, kv: CacheQuantization = "none"
) -> int:
    total = 0
    for cache in caches:
        # A scale of 4 bytes and a zero point of 1 stand beside the codes of a head.
        head_bytes = cache.head_dim + 5 if kv == "per_token" else cache.head_dim * 4
        slots = context if cache.window is None else min(context, cache.window + CHUNK - 1)
        total += slots * 2 * cache.num_key_value_heads * head_bytes
    return total


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


CAPPED = "gemma-2-2b"
UNCAPPED = tuple(n for n in shapes.NAMES if shapes.load(n).config.attention_softcap is None)
# A window, one head and eight, both head sizes.
SEVERAL = ("gemma-3-1b", "qwen3-0.6b")

# How a shape attends, how it keeps local layers, and in what: every two of them together. All of
# them at once are in tiny models (test_onnx_lowering.py), all shapes in the plans below.
ONNX_FLOAT = [*((name, UNCAPPED, "windowed") for name in UNCAPPED), (CAPPED, (CAPPED,), "ring")]
ONNX_INT8 = [*((name, SEVERAL, "ring") for name in SEVERAL), (CAPPED, (CAPPED,), "windowed")]


@pytest.mark.parametrize(("name", "lowered", "local_cache"), ONNX_FLOAT)
def test_onnx_holds_what_the_formula_says(
    name: str, lowered: tuple[str, ...], local_cache: str
) -> None:
    model = Model(lowered, LONGEST_CONTEXT)
    in_plan, in_file = _lowered_to_onnx(model, local_cache).of(name)
    assert in_plan == in_file == formula(caches_of(name), model.context)


@pytest.mark.parametrize(("name", "lowered", "local_cache"), ONNX_INT8)
def test_onnx_holds_int8_codes_and_no_scales_in_slots_at_the_longest_context(
    name: str, lowered: tuple[str, ...], local_cache: str
) -> None:
    longest = shapes.load(name).config.max_position_embeddings
    model = Model(lowered, min(longest, 1 << 15))
    found = _lowered_to_onnx(model, local_cache, "per_channel")
    in_plan, in_file = found.of(name)
    # A quarter of float32: one byte a value.
    assert in_plan == in_file == formula(caches_of(name), model.context) // 4
    # float32, of keys and of values.
    scales = sum(2 * cache.num_key_value_heads * cache.head_dim * 4 for cache in model.caches)
    assert found.scales_in_plan == found.scales_in_file == scales


@pytest.mark.parametrize("kv", ["none", "per_channel", "per_token"])
@pytest.mark.parametrize("name", shapes.NAMES)
def test_every_layer_of_a_shape_is_in_the_plan(name: str, kv: CacheQuantization) -> None:
    config = shapes.load(name).config
    context = min(config.max_position_embeddings, LONGEST_CONTEXT)
    plan = plan_caches(config, context, CHUNK).stored(kv)
    expected = formula(config.layers, context, kv)
    assert plan.size_bytes == (expected // 4 if kv == "per_channel" else expected)


@pytest.mark.parametrize("kind", ["per_channel", "per_token"])
def test_int8_caches_of_gemma_3_1b_at_32k_fit_into_80_mb(kind: CacheQuantization) -> None:
    plan = plan_caches(shapes.load("gemma-3-1b").config, 1 << 15, CHUNK).stored(kind)
    # 4 layers of 32,768 slots and 22 of 512 + 127, one head of 256 channels.
    row_bytes = 256 + (5 if kind == "per_token" else 0)
    assert plan.size_bytes == 2 * (4 * 32_768 + 22 * 639) * row_bytes <= 80e6


# Lowering takes long: windows and none, 1, 4 and 8 heads, and both head sizes, once each.
# Every build holds its file against its plan, and every plan is held against the formula above.
EXECUTORCH_FLOAT = [*((name, SEVERAL) for name in SEVERAL), (CAPPED, (CAPPED,))]


@pytest.mark.parametrize(("name", "lowered"), EXECUTORCH_FLOAT)
def test_executorch_holds_what_the_formula_says(name: str, lowered: tuple[str, ...]) -> None:
    model = Model(lowered, LONGEST_CONTEXT)
    in_plan, in_file = _lowered_to_executorch(model).of(name)
    assert in_plan == in_file == formula(caches_of(name), model.context)


def test_executorch_holds_int8_codes_and_scales_in_slots_at_32k() -> None:
    model = Model(("gemma-3-4b",), 1 << 15)
    in_plan, in_file = _lowered_to_executorch(model, "per_token").of("gemma-3-4b")
    assert in_plan == in_file == formula(caches_of("gemma-3-4b"), 1 << 15, "per_token")


@once
def _lowered_to_executorch(model: Model, kv: CacheQuantization = "none") -> Found:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lowering = source(model.config, folder, {})
        lowering = replace(lowering, caches=lowering.caches.stored(kv))
        artifact = backends.load("executorch").lower(lowering, folder / "bundle")
        buffers = inspect_program(folder / "bundle" / artifact.model).caches
    return Found(
        model,
        tuple(entry.size_bytes for entry in artifact.caches),
        _by_layer((int(name.split(".")[2]), size) for name, size in buffers.items()),
    )


@dataclass(frozen=True)
class FoundInOnnx(Found):
    """The same, and the bytes of all constant scales."""

    scales_in_plan: int
    scales_in_file: int


@once
def _lowered_to_onnx(model: Model, local_cache: str, kv: CacheQuantization = "none") -> FoundInOnnx:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lowering = source(model.config, folder, {"local-cache": local_cache})
        scales = tuple(
            np.full((cache.num_key_value_heads, cache.head_dim), 0.01, np.float32)
            for cache in model.caches
        )
        lowering = replace(
            lowering,
            caches=lowering.caches.stored(kv),
            kv_scales=None if kv == "none" else KvScales(scales, scales),
        )
        artifact = backends.load("onnx").lower(lowering, folder / "bundle")
        file = folder / "bundle" / artifact.model
        sizes = cache_input_bytes(file)
        return FoundInOnnx(
            model,
            tuple(entry.size_bytes for entry in artifact.caches),
            _by_layer((int(name.split(".")[1]), size) for name, size in sizes.items()),
            scales_in_plan=sum(entry.scale_bytes for entry in artifact.caches),
            scales_in_file=_scale_bytes_in_file(file),
        )


def _by_layer(sizes: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    total: Counter[int] = Counter()
    for layer, size in sizes:
        total[layer] += size
    return tuple(total[layer] for layer in sorted(total))


def _scale_bytes_in_file(model: Path) -> int:
    initializers = onnx_ir.load(model).graph.initializers
    scales = [v.const_value for k, v in initializers.items() if k.startswith("cache_scales.")]
    return sum(scale.nbytes for scale in scales if scale is not None)
