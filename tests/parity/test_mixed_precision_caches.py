"""Artifacts with one kind of layer in int8 and the other in float32, against the reference that
rounds alike: past three wraps of every ring, for every split, on both backends."""

import numpy as np
import pytest

from pocketlm.edge_build.backends.onnx.metadata import kv_cache_bytes
from pocketlm.edge_build.quantization.activations import Rounding
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.runtime_py.kv_choice import KvName, kv_choice_of
from tests.artifacts import CONTEXT, Build, Lowered, logits_after, lowered_onnx, random_tokens
from tests.parity_cases import SPLITS, reference_errors

MIXED: tuple[KvName, ...] = ("int8-local", "int8-global")
# Qwen3 has no layers with a window.
FAMILIES = ("gemma3_text", "gemma2")


def lowered(backend: str, family: str, kv: KvName) -> Lowered:
    if backend.startswith("onnx"):
        return lowered_onnx(Build(family, "none", backend.removeprefix("onnx-"), kv=kv))
    pytest.importorskip("executorch")
    from tests.artifacts import lowered_executorch

    return lowered_executorch(family, "none", kv=kv)


BACKENDS = ("onnx-windowed", "onnx-ring", "executorch")


@pytest.mark.parametrize("kv", MIXED)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_they_agree_with_the_reference(backend: str, family: str, kv: KvName) -> None:
    built = lowered(backend, family, kv)
    assert kv_choice_of(built.artifact.caches).name == kv
    found, bound = reference_errors(built, SPLITS["uneven"])
    # As for caches in int8: the same codes but where a value lies on a rounding edge.
    assert np.median(found) < 2e-5
    assert found.max() <= min(bound, 0.01)


@pytest.mark.parametrize("kv", MIXED)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_reference_that_rounds_in_every_layer_is_another(backend: str, kv: KvName) -> None:
    built = lowered(backend, "gemma3_text", kv)
    tokens, artifact = random_tokens(CONTEXT), built.artifact
    found = logits_after(built.load(), tokens, SPLITS["ones"])
    source = built.source
    for way in (Rounding(), Rounding("none", artifact.attention_quantization)):
        model = ReferenceModel(
            source.config, source.weights, "none", way.attention, source.kv_scales
        )
        other = model.run(tokens).numpy()
        assert np.median(np.abs(found - other).max(-1) / other.std(-1)) > 1e-3, way


@pytest.mark.parametrize("kv", MIXED)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_file_holds_the_bytes_that_the_manifest_says(backend: str, kv: KvName) -> None:
    built = lowered(backend, "gemma3_text", kv)
    if backend == "executorch":
        from pocketlm.edge_build.backends.executorch.inspection import kv_cache_bytes as of_program

        in_file = of_program(built.model_file)
    else:
        in_file = kv_cache_bytes(built.model_file)
    assert in_file == built.entry.kv_cache_bytes
    sizes = [lowered(backend, "gemma3_text", other).entry for other in ("float32", "int8")]
    assert sizes[1].kv_cache_bytes < in_file < sizes[0].kv_cache_bytes


@pytest.mark.parametrize("kv", MIXED)
def test_scales_are_kept_for_int8_layers_alone(kv: KvName) -> None:
    built = lowered_onnx(Build("gemma3_text", kv=kv))
    named = {name for name in built.graph.initializers if name.startswith("cache_scales.")}
    coded = [i for i, c in enumerate(built.artifact.caches) if c.dtype == "int8"]
    assert named == {f"cache_scales.{kind}_{i}" for kind in ("key", "value") for i in coded}


@pytest.mark.parametrize("kv", MIXED)
def test_the_stock_runner_is_not_told_of_two_types(kv: KvName) -> None:
    assert not (lowered_onnx(Build("gemma3_text", kv=kv)).folder / "genai_config.json").exists()
    assert (lowered_onnx(Build("gemma3_text", kv="int8")).folder / "genai_config.json").exists()
