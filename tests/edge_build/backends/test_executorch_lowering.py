"""Lowered programs: what is in the file is what the recipe and the cache plan asked for."""

import gc
import hashlib
import os
import re
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from torch._subclasses import FakeTensor

pytest.importorskip("executorch")

from pocketlm.edge_build.backends.executorch.inspection import inspect_program, kv_cache_bytes
from pocketlm.edge_build.backends.executorch.lowering import (
    check_program,
    import_operators,
    wanted_linears,
)
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.lowered_cache import LoweredCache
from pocketlm.runtime_py.engines.executorch.program_file import DTYPES
from pocketlm.runtime_py.kv_choice import KV_PRECISIONS as KV
from pocketlm.runtime_py.kv_choice import KvName
from tests.artifacts import (
    CHUNK,
    CONTEXT,
    LOGITS_ROWS,
    TOKENIZER_SIZE,
    TWO_LAYERS,
    executorch_source,
    lowered_executorch,
    write,
)
from tests.conftest import share_lowered
from tests.kept import kept_bytes

# Lowered cold before all else, and by most other tests from then on from the cache.
SMALL = ("gemma3_text", "int4-g32", TWO_LAYERS["gemma3_text"])


@dataclass(frozen=True)
class Cold:
    """A program lowered from nothing: its digest, and the tensors that were there only after it."""

    sha256: str
    left_over: list[torch.Size]


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Cold:
    _, source, _ = executorch_source(*SMALL)
    folder = tmp_path_factory.mktemp("cold")
    bundle, empty = folder / "bundle", LoweredCache(folder / "lowered")
    before = _tensors()
    known = {id(tensor) for tensor in before}  # `before` keeps them, so no other gets their ids
    artifact, _ = write("executorch", replace(source, lowered=empty), bundle)
    left_over = [tensor.shape for tensor in _tensors() if id(tensor) not in known]
    share_lowered(folder / "lowered")
    return Cold(hashlib.sha256((bundle / artifact.model).read_bytes()).hexdigest(), left_over)


def test_executorchs_own_passes_give_the_same_bytes_in_another_process(cold: Cold) -> None:
    code = f"""
import hashlib
from contextlib import nullcontext
from dataclasses import replace
from pocketlm.edge_build.backends.executorch.unroll import writing
from pocketlm.edge_build.lowered_cache import NO_CACHE
from tests.artifacts import executorch_source, write
writing.fused_passes = nullcontext
_, source, folder = executorch_source(*{SMALL})
artifact, bundle = write("executorch", replace(source, lowered=NO_CACHE), folder)
print(hashlib.sha256((bundle / artifact.model).read_bytes()).hexdigest())
"""

    def other() -> bytes:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            # Sets of strings come out in another order.
            env={**os.environ, "PYTHONHASHSEED": "1"},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.strip()

    assert kept_bytes(__file__, "digest of another process", other).decode() == cold.sha256


def test_no_weight_outlives_its_lowering(cold: Cold) -> None:
    assert cold.left_over == []


def _tensors() -> list[torch.Tensor]:
    gc.collect()
    with warnings.catch_warnings():
        # To ask some of torch's own objects for their type is deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    # What only has a shape, and what is empty, holds no memory.
    return [t for t in tensors if t.numel() and not isinstance(t, FakeTensor)]


QUANTIZED = [
    ("gemma3_text", "int4-g32", {"int4 in groups"}),
    ("gemma2", "int4-channel", {"int4 per channel", "int4 in groups"}),
    ("qwen3", "int8-channel", {"int8 per channel"}),
]


@pytest.mark.parametrize(("family", "recipe", "kinds"), QUANTIZED)
def test_every_linear_layer_is_in_a_delegate_with_its_bits(
    family: str, recipe: str, kinds: set[str]
) -> None:
    built = lowered_executorch(family, recipe)
    report = inspect_program(built.model_file)
    wanted = wanted_linears(built.source)
    assert {kind for kind, _ in wanted} == kinds
    assert sum(wanted.values()) == 7 * built.source.config.num_layers + 1
    assert not wanted - report.linears
    # What else is a linear layer: means of norms and the swap of a rotation, both float32.
    assert {(kind, shape[0]) for kind, shape in report.linears - wanted} <= {
        ("float32", 1),
        ("float32", 2),
    }


@pytest.mark.parametrize("kv", KV)
def test_a_layer_costs_one_delegate(kv: KvName) -> None:
    built = lowered_executorch("gemma3_text", "int4-g32", kv=kv)
    # One ends at each layer's cache writes; the last layer's rest and the head come after.
    assert len(inspect_program(built.model_file).delegates) == built.source.config.num_layers + 2


def test_stock_operators_stand_where_they_should() -> None:
    rings = inspect_program(lowered_executorch("gemma3_text", "int4-g32").model_file).operators
    assert {
        "llama::update_cache_with_indices.out",
        "llama::update_cache.out",
        "llama::custom_sdpa.out",
        "quantized_decomposed::embedding_4bit.dtype_out",
        "aten::cos.out",
    } <= rings
    capped = inspect_program(lowered_executorch("gemma2", "int4-channel").model_file).operators
    assert "llama::custom_sdpa.out" not in capped
    assert not any("bmm" in name or "softmax" in name or "tanh" in name for name in capped)
    linear = inspect_program(lowered_executorch("qwen3", "int8-channel").model_file).operators
    assert "llama::update_cache_with_indices.out" not in linear
    assert "quantized_decomposed::embedding_byte.dtype_out" in linear


def test_int8_caches_are_read_as_codes() -> None:
    rings = inspect_program(lowered_executorch("gemma3_text", "int4-g32", kv="int8").model_file)
    assert {
        "quantized_decomposed::choose_qparams_per_token_asymmetric.out",
        "quantized_decomposed::quantize_per_token.out",
        "llama::update_cache_with_indices.out",
        "llama::update_cache.out",
        "llama::custom_quantized_sdpa.out",
    } <= rings.operators
    assert "llama::custom_sdpa.out" not in rings.operators


def test_plain_attention_restores_int8_caches_in_its_delegate() -> None:
    built = lowered_executorch("gemma2", "none", kv="int8")
    report = inspect_program(built.model_file)
    assert not any("bmm" in name or "dequantize" in name for name in report.operators)
    assert len(report.delegates) == built.source.config.num_layers + 2
    # Codes and zero points, of keys and of values; recipe none restores nothing else.
    conversions = sum(delegate.nodes["XNNConvert"] for delegate in report.delegates)
    assert conversions == 4 * built.source.config.num_layers


@pytest.mark.parametrize(
    ("family", "recipe", "kv"),
    [
        *((*case[:2], "float32") for case in QUANTIZED),
        ("gemma3_text", "int4-g32", "int8"),
        ("gemma2", "none", "int8"),
    ],
)
def test_cache_buffers_have_the_planned_bytes(family: str, recipe: str, kv: KvName) -> None:
    built = lowered_executorch(family, recipe, kv=kv)
    expected = sum(cache.size_bytes for cache in built.source.caches.layers)
    assert kv_cache_bytes(built.model_file) == expected == built.entry.kv_cache_bytes


def test_the_decoder_is_what_the_runtime_finds() -> None:
    from executorch.extension.pybindings.portable_lib import _load_for_executorch

    built = lowered_executorch("gemma3_text", "int4-g32")
    (decoder,) = built.artifact.components
    meta = _load_for_executorch(str(built.model_file)).method_meta("forward")
    assert (decoder.name, decoder.file) == ("decoder", built.artifact.model)
    assert decoder.entry_point == meta.name()
    assert decoder.caches == tuple(range(built.source.config.num_layers))
    assert decoder.signature is not None
    tokens, position = decoder.signature.inputs
    (logits,) = decoder.signature.outputs
    assert (str(tokens), str(position)) == (f"a tensor: int64[1, {CHUNK}]", "a tensor: int64[1]")
    assert str(logits) == f"a tensor: float32[1, {LOGITS_ROWS}, {TOKENIZER_SIZE}]"
    for ours, found in (
        (tokens, meta.input_tensor_meta(0)),
        (position, meta.input_tensor_meta(1)),
        (logits, meta.output_tensor_meta(0)),
    ):
        assert ours.shape == tuple(found.sizes())
        assert ours.dtype == DTYPES[found.dtype()]
    assert decoder.planned_bytes == inspect_program(built.model_file).planned_bytes > 0


def test_stock_runners_find_their_metadata() -> None:
    from executorch.extension.pybindings.portable_lib import _load_for_executorch

    program = _load_for_executorch(str(lowered_executorch("gemma3_text", "int4-g32").model_file))
    assert program.run_method("get_max_seq_len", ()) == [CHUNK]
    assert program.run_method("get_max_context_len", ()) == [CONTEXT]
    assert program.run_method("get_eos_ids", ()) == [1, 106]
    assert program.run_method("get_bos_id", ()) == [2]
    assert program.run_method("enable_dynamic_shape", ()) == [True]
    assert program.run_method("use_kv_cache", ()) == [True]


def test_logits_are_padded_to_the_tokenizer() -> None:
    from executorch.extension.pybindings.portable_lib import _load_for_executorch

    # What was lowered by an earlier run was lowered without them.
    import_operators()
    built = lowered_executorch("gemma3_text", "int4-g32")
    assert built.artifact.logits_size == TOKENIZER_SIZE
    program = _load_for_executorch(str(built.model_file))
    (logits,) = program.forward((torch.zeros(1, 1, dtype=torch.int64), torch.tensor([0])))
    assert logits.shape == (1, 1, TOKENIZER_SIZE)
    assert logits[0, 0, 512:].max() == -1e9


def test_a_missing_linear_layer_is_an_error() -> None:
    built = lowered_executorch("gemma3_text", "int4-g32")
    report = inspect_program(built.model_file)
    first = report.delegates[0]
    stripped = replace(report, delegates=(replace(first, linears=Counter()), *report.delegates[1:]))
    with pytest.raises(BuildError, match=r"missing: .* int4 in groups \(128, 64\)"):
        check_program(built.source, stripped)


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize(
    "operator", ["aten::linear.out", "quantized_decomposed::dequantize_per_token.out"]
)
def test_a_matrix_product_outside_the_delegates_is_an_error(operator: str, kv: KvName) -> None:
    built = lowered_executorch("gemma3_text", "int4-g32", kv=kv)
    report = inspect_program(built.model_file)
    fallen = replace(report, operators=report.operators | {operator})
    with pytest.raises(BuildError, match=f"{re.escape(operator)} stayed outside XNNPACK"):
        check_program(built.source, fallen)


@pytest.mark.parametrize("kv", KV)
def test_a_cache_of_another_size_is_an_error(kv: KvName) -> None:
    built = lowered_executorch("gemma3_text", "int4-g32", kv=kv)
    report = inspect_program(built.model_file)
    without_one = dict(list(report.caches.items())[:-1])
    with pytest.raises(BuildError, match="key/value caches"):
        check_program(built.source, replace(report, caches=without_one))
