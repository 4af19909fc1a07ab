"""Decoder → ONNX graph without weights: one torch.export of fake tensors."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx_ir
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from pocketlm.edge_build.backends.onnx import stored
from pocketlm.edge_build.backends.onnx.attention import CachedAttention, StepInputs
from pocketlm.edge_build.backends.onnx.kinds import free_axes, least_opset
from pocketlm.edge_build.backends.onnx.operator_modules import OperatorModule, replace_modules
from pocketlm.edge_build.backends.onnx.stored import StoredTensor
from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.edge_build.kv_scales import KvScales
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.models.config import ModelConfig, Rotary
from pocketlm.models.decoder import Decoder
from pocketlm.models.layers import inverse_frequencies, rotary_tables
from pocketlm.runtime_py.manifest import CacheEntry


def cache_names(cache: int) -> tuple[str, str]:
    """Return the graph inputs of one cache's keys and values, as stock runners name a layer's."""
    return f"past_key_values.{cache}.key", f"past_key_values.{cache}.value"


class _Graph(nn.Module):
    """Tokens, mask and caches → logits, caches, rows of logits. Only the mask's length is used."""

    def __init__(
        self, config: ModelConfig, weights: WeightStore, plan: CachePlan, kv_scales: KvScales | None
    ) -> None:
        super().__init__()
        self.decoder = Decoder(config)
        self.caches, self.logits_rows = plan.layers, plan.logits_rows
        replace_modules(self.decoder, weights)
        self.rotary = OperatorModule(_rotary_tensors(config, plan.context_length))
        self.cache_scales = OperatorModule(_scale_tensors(plan, kv_scales))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, past: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, ...]:
        new, total = _length(input_ids), _length(attention_mask)
        positions = total - new + torch.arange(input_ids.shape[1])
        inputs = StepInputs(positions, total, past, self._tables(), self._scales())
        step = CachedAttention(self.decoder.config, self.caches, inputs)
        rows = self.decoder.forward_last(input_ids, step, self.logits_rows)
        present = (tensor for pair in step.present for tensor in pair)
        if self.logits_rows == 1:
            return (rows, *present)
        # Stock runners bind one row, whatever the length of the call.
        return (rows[:, -1:], *present, rows)

    def _tables(self) -> dict[Rotary, tuple[Tensor, Tensor]]:
        # Layers that rotate alike share a table whatever their window.
        named = dict(self.rotary.named_buffers())
        names = rotation_names(self.decoder.config.rotaries)
        return {
            rotary: (named[f"cosines_{name}"], named[f"sines_{name}"])
            for rotary, name in names.items()
        }

    def _scales(self) -> list[tuple[Tensor, Tensor] | None]:
        named = dict(self.cache_scales.named_buffers())
        return [
            (named[f"key_{i}"], named[f"value_{i}"]) if f"key_{i}" in named else None
            for i in range(len(self.caches))
        ]


def trace(
    config: ModelConfig, weights: WeightStore, plan: CachePlan, kv_scales: KvScales | None
) -> onnx_ir.Model:
    """Trace the Decoder with the runtime's operators in place of its modules.

    Initializers have shapes but no bytes yet; `stored_tensors` says where those are.

    Args:
        plan: the caches as this build keeps them.
        kv_scales: of all caches; read for those in int8, None where there are none.
    """
    # Rotary tables hold real numbers; everything made inside the mode is a shape.
    with FakeTensorMode(), _quiet():
        graph = _Graph(config, weights, plan, kv_scales).eval()
        axes = free_axes(config, plan.layers)
        past = [
            tuple(_empty_cache(cache, axis) for _ in range(2))
            for cache, axis in zip(plan.layers, axes, strict=True)
        ]
        tokens, mask = (torch.zeros(1, length, dtype=torch.int64) for length in (2, 3))
        names = [name for cache in range(len(past)) for name in cache_names(cache)]
        program = torch.onnx.export(
            graph,
            (tokens, mask, past),
            dynamo=True,
            optimize=False,
            verify=False,
            verbose=False,
            opset_version=least_opset(config, plan.layers),
            dynamic_shapes=({1: "new"}, {1: "total"}, [_dynamic(axis) for axis in axes]),
            input_names=["input_ids", "attention_mask", *names],
            output_names=[
                "logits",
                *(name.replace("past_key_values", "present") for name in names),
                *(["logits_rows"] if plan.logits_rows > 1 else []),
            ],
        )
    assert program is not None
    if plan.logits_rows > 1:
        # The exporter names the axis by its arithmetic.
        rows = program.model.graph.outputs[-1]
        rows.shape = onnx_ir.Shape([1, "rows", config.vocab_size])
    return program.model


def stored_tensors(
    config: ModelConfig, weights: WeightStore, plan: CachePlan, kv_scales: KvScales | None
) -> dict[str, StoredTensor]:
    """Return where the bytes of a traced graph's initializers are, by their names there."""
    with FakeTensorMode():
        graph = _Graph(config, weights, plan, kv_scales)
    return {
        f"{path}.{name}": tensor
        for path, module in graph.named_modules()
        if isinstance(module, OperatorModule)
        for name, tensor in module.tensors.items()
    }


def _length(x: Tensor) -> Tensor:
    """Return the length of [1, length] as a [1] int64 tensor of the graph."""
    length: Tensor = torch.onnx.ops.symbolic(
        "Shape", (x,), {"start": 1, "end": 2}, dtype=torch.int64, shape=(1,), version=23
    )
    return length


def _empty_cache(cache: CacheEntry, axis: str | None) -> Tensor:
    # A free axis must not have an example of 0 or 1: the exporter would fix it there.
    slots = cache.capacity if axis is None else max(2, cache.capacity)
    dtype = getattr(torch, cache.dtype)
    return torch.empty(1, cache.num_key_value_heads, slots, cache.head_dim, dtype=dtype)


def _dynamic(axis: str | None) -> tuple[dict[int, str], dict[int, str]]:
    axes = {} if axis is None else {2: axis}
    return axes, axes


def rotation_names(rotaries: Sequence[Rotary]) -> dict[Rotary, str]:
    """Return a name for each rotation's tables.

    Their size stands in it where models have several.
    """
    has_one_size = len({rotary.dim for rotary in rotaries}) == 1
    names = {}
    for rotary in rotaries:
        # 17 digits tell all numbers apart. A name of a module has no dots.
        exact = f"{rotary.theta:.17g}_{rotary.factor:.17g}"
        if not has_one_size:
            exact += f"_{rotary.dim}"
        names[rotary] = exact.replace(".", "p").replace("+", "").replace("-", "m")
    return names


def _rotary_tensors(config: ModelConfig, context_length: int) -> dict[str, StoredTensor]:
    tensors = {}
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        for rotary, rotation in rotation_names(config.rotaries).items():
            tables = rotary_tables(torch.arange(context_length), inverse_frequencies(rotary))
            for kind, table in zip(("cosines", "sines"), tables, strict=True):
                name = f"{kind}_{rotation}"
                tensors[name] = stored.constant(f"rotary.{name}", table.numpy())
    return tensors


def _scale_tensors(plan: CachePlan, kv_scales: KvScales | None) -> dict[str, StoredTensor]:
    coded = [i for i, cache in enumerate(plan.layers) if cache.quantization == "per_channel"]
    if not coded:
        return {}
    assert kv_scales is not None, "constant scales come from calibration"
    return {
        f"{kind}_{cache}": stored.cache_scales(f"cache_scales.{kind}_{cache}", caches[cache])
        for kind, caches in (("key", kv_scales.keys), ("value", kv_scales.values))
        for cache in coded
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and notices off the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
