"""The .pte over int8 keys and values against the reference that rounds them alike: past three wraps
of every ring, for every split."""

import numpy as np
import pytest

pytest.importorskip("executorch")

from pocketlm.edge_build.reference import ReferenceModel
from tests.artifacts import (
    CONTEXT,
    logits_after,
    lowered_executorch,
    random_tokens,
)
from tests.parity_cases import SPLITS, reference_errors

# Gemma 2 has attention of plain operators, which rounds no queries.
ROUNDED = {
    "gemma3_text": "qkv_per_token",
    "gemma2": "kv_per_token",
    "qwen3": "qkv_per_token",
}


@pytest.mark.parametrize("splits", SPLITS.values(), ids=list(SPLITS))
@pytest.mark.parametrize("family", list(ROUNDED))
def test_int8_caches_agree_with_the_reference(family: str, splits: list[int]) -> None:
    built = lowered_executorch(family, "none", kv="int8")
    assert built.artifact.attention_quantization == ROUNDED[family]
    found, bound = reference_errors(built, splits)
    # The same codes but where a value lies on a rounding edge: 2e-6 seen without, 1e-3 with one.
    assert np.median(found) < 2e-5
    assert found.max() <= min(bound, 0.01)


@pytest.mark.parametrize("splits", SPLITS.values(), ids=list(SPLITS))
def test_int8_caches_under_quantized_weights_agree_with_the_reference(splits: list[int]) -> None:
    found, bound = reference_errors(
        lowered_executorch("gemma3_text", "int4-g32", kv="int8"), splits
    )
    # Equal until a first activation, query or key falls on the other side of an edge.
    assert found.min() < 1e-5
    assert found.max() <= bound


@pytest.mark.parametrize("family", ["gemma3_text", "gemma2"])
def test_the_rounding_of_keys_and_values_is_what_the_runtime_computes(family: str) -> None:
    # Without it the same weights are a percent away.
    built = lowered_executorch(family, "none", kv="int8")
    tokens = random_tokens(CONTEXT)
    exact = ReferenceModel(built.source.config, built.source.weights, "none").run(tokens).numpy()
    found = logits_after(built.load(), tokens, SPLITS["ones"])
    assert np.median(np.abs(found - exact).max(-1) / exact.std(-1)) > 1e-2
