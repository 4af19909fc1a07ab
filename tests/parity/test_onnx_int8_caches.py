"""model.onnx over int8 keys and values against the reference that rounds them alike, and against
float32: past three wraps of every window, for every split. Both kinds of local cache."""

import numpy as np
import pytest

from pocketlm.edge_build.reference import ReferenceModel
from tests.artifacts import (
    CONTEXT,
    Build,
    Lowered,
    logits_after,
    lowered_onnx,
    random_tokens,
)
from tests.conftest import WINDOW
from tests.parity_cases import ONNX_KINDS, SPLITS, reference_errors


@pytest.mark.parametrize("splits", SPLITS.values(), ids=list(SPLITS))
@pytest.mark.parametrize(("family", "local_cache"), ONNX_KINDS)
def test_int8_caches_agree_with_the_reference(
    family: str, local_cache: str, splits: list[int]
) -> None:
    built = lowered_onnx(Build(family, "none", local_cache, kv="int8"))
    assert built.artifact.attention_quantization == "kv_per_channel"
    found, bound = reference_errors(built, splits)
    # The same codes but where a value lies on a rounding edge: 4e-6 seen without, 2e-3 with one.
    assert np.median(found) < 2e-5
    assert found.max() <= min(bound, 0.01)


# Gemma 2's windows are there without quantized weights, its quantized weights with rings.
@pytest.mark.parametrize(
    ("family", "local_cache"), [kind for kind in ONNX_KINDS if kind != ("gemma2", "windowed")]
)
def test_int8_caches_under_quantized_weights_agree_with_the_reference(
    family: str, local_cache: str
) -> None:
    found, bound = reference_errors(
        lowered_onnx(Build(family, "int4-g32", local_cache, kv="int8")), SPLITS["uneven"]
    )
    # Equal until a first activation or key falls on the other side of an edge.
    assert found.min() < 1e-5
    assert found.max() <= bound


# Of windows: the operator that writes rings of codes writes those of floats too, which
# test_onnx_against_decoder.py splits so.
@pytest.mark.parametrize("split", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1])
def test_any_split_gives_the_same_logits(split: int) -> None:
    built = lowered_onnx(Build("gemma3_text", "none", chunk=WINDOW + 1, kv="int8"))
    whole, rest = divmod(CONTEXT, split)
    found, bound = reference_errors(built, [split] * whole + [rest] * bool(rest))
    assert np.median(found) < 2e-5
    assert found.max() <= min(bound, 0.01)


@pytest.mark.parametrize("local_cache", ["windowed", "ring"])
def test_the_rounding_of_keys_and_values_is_what_the_runtime_computes(local_cache: str) -> None:
    # Without it the same weights are percents away.
    built = lowered_onnx(Build("gemma3_text", "none", local_cache, kv="int8"))
    tokens = random_tokens(CONTEXT)
    exact = ReferenceModel(built.source.config, built.source.weights, "none").run(tokens).numpy()
    found = logits_after(built.load(), tokens, [1] * CONTEXT)
    assert np.median(np.abs(found - exact).max(-1) / exact.std(-1)) > 1e-2


@pytest.mark.parametrize("local_cache", ["windowed", "ring"])
def test_values_beyond_the_scales_saturate_as_in_the_reference(local_cache: str) -> None:
    built = lowered_onnx(Build("gemma3_text", "none", local_cache, kv="int8", kv_range=0.25))
    found, bound = reference_errors(built, SPLITS["uneven"])
    assert np.median(found) < 2e-5
    assert found.max() <= bound
    codes = np.concatenate([buffer.ravel() for buffer in saturated(built)])
    assert {-128, 127} <= set(codes.tolist())
    assert (np.abs(codes.astype(int)) >= 127).mean() > 0.1


def saturated(built: Lowered) -> list[np.ndarray]:
    """Return the caches after a run."""
    from pocketlm.runtime_py.engines.onnx.engine import OnnxModel

    model = built.load()
    assert isinstance(model, OnnxModel)
    logits_after(model, random_tokens(CONTEXT), SPLITS["chunks"])
    return model._caches
