"""model.onnx against eager models: recipe none against the Decoder, quantized ones against the
reference with the same codes and the same activation rounding. Both kinds of local cache."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.models.checkpoint import load_decoder
from tests import parity_cases
from tests.artifacts import (
    CHUNK,
    CONTEXT,
    Build,
    Lowered,
    derived_bound,
    ends,
    logits_after,
    lowered_onnx,
    random_tokens,
    rows_after,
)
from tests.conftest import WINDOW
from tests.parity_cases import ONNX_KINDS

SPLITS = {**parity_cases.SPLITS, "twos": [2] * (CONTEXT // 2)}
LONGEST_CHUNK = WINDOW + 1


def decoder_logits(built: Lowered, tokens: list[int]) -> NDArray[np.float32]:
    with torch.no_grad():
        logits = load_decoder(built.checkpoint)(torch.tensor([tokens]))
    found: NDArray[np.float32] = logits[0].numpy()
    return found


def to_the_end(splits: list[int]) -> list[int]:
    rest = CONTEXT - sum(splits)
    return [*splits, rest] if rest else splits


@pytest.mark.parametrize("splits", SPLITS.values(), ids=list(SPLITS))
@pytest.mark.parametrize(("family", "local_cache"), ONNX_KINDS)
def test_float_artifact_agrees_with_the_decoder_at_every_position(
    family: str, local_cache: str, splits: list[int]
) -> None:
    built = lowered_onnx(Build(family, "none", local_cache))
    tokens, splits = random_tokens(CONTEXT), to_the_end(splits)
    expected = decoder_logits(built, tokens)
    found = logits_after(built.load(), tokens, splits)
    # float32 in another order: 4e-6 seen.
    assert np.abs(found - expected[ends(splits)]).max() < 2e-5 * expected.std()


@pytest.mark.parametrize(("family", "local_cache"), ONNX_KINDS)
def test_short_calls_give_a_row_after_each_token(family: str, local_cache: str) -> None:
    built = lowered_onnx(Build(family, "none", local_cache))
    tokens, splits = random_tokens(CONTEXT), SPLITS["uneven"]
    expected = decoder_logits(built, tokens)
    found, places = rows_after(built.load(), tokens, splits)
    assert np.abs(found - expected[places]).max() < 2e-5 * expected.std()


@pytest.mark.parametrize("split", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1])
@pytest.mark.parametrize("local_cache", ["windowed", "ring"])
def test_any_split_gives_the_same_logits(local_cache: str, split: int) -> None:
    built = lowered_onnx(Build("gemma3_text", "none", local_cache, chunk=LONGEST_CHUNK))
    tokens = random_tokens(CONTEXT)
    splits = to_the_end([split] * (CONTEXT // split))
    expected = decoder_logits(built, tokens)
    found = logits_after(built.load(), tokens, splits)
    assert np.abs(found - expected[ends(splits)]).max() < 2e-5 * expected.std()


# A window as long as the context, and the longest context whose local layers never wrap; there
# one call may take everything.
@pytest.mark.parametrize("context", [WINDOW, WINDOW + CHUNK - 1])
def test_context_near_the_window_keeps_every_position(context: int) -> None:
    built = lowered_onnx(Build("gemma2", "none", context=context, chunk=CHUNK))
    assert {cache.kind for cache in built.artifact.caches} == {"linear"}
    tokens = random_tokens(context)
    expected = decoder_logits(built, tokens)
    found = logits_after(built.load(), tokens, [1] * context)
    assert np.abs(found - expected).max() < 2e-5 * expected.std()


def test_everything_at_once_gives_the_same_logits() -> None:
    built = lowered_onnx(Build("gemma3_text", "none", chunk=CONTEXT))
    tokens = random_tokens(CONTEXT)
    expected = decoder_logits(built, tokens)
    found = logits_after(built.load(), tokens, [CONTEXT])
    assert np.abs(found - expected[-1]).max() < 2e-5 * expected.std()


@pytest.mark.parametrize(
    ("family", "local_cache", "recipe"),
    [
        ("gemma3_text", "windowed", "int4-g32"),
        ("gemma3_text", "ring", "int4-g32"),
        ("gemma3_text", "windowed", "int8-channel"),
        ("gemma2", "windowed", "int4-g32"),
        ("gemma2", "ring", "int4-channel"),
        ("qwen3", "windowed", "int4-g32"),
    ],
)
def test_quantized_artifact_agrees_with_the_reference(
    family: str, local_cache: str, recipe: str
) -> None:
    built = lowered_onnx(Build(family, recipe, local_cache))
    tokens = random_tokens(CONTEXT)
    expected, bound = derived_bound(built, tokens)
    found = logits_after(built.load(), tokens, [1] * CONTEXT)
    errors = np.abs(found - expected).max(-1) / expected.std(-1)
    # Equal but for float32 order where no activation lies on a rounding edge: 3e-6 seen.
    assert np.quantile(errors, 0.25) < 2e-5
    assert errors.max() <= bound


def test_activation_rounding_is_what_the_runtime_computes() -> None:
    # Without the rounding the same codes are several percent away.
    built = lowered_onnx(Build("gemma3_text", "int4-g32"))
    tokens = random_tokens(CONTEXT)
    exact = ReferenceModel(built.source.config, built.source.weights, "none").run(tokens).numpy()
    found = logits_after(built.load(), tokens, [1] * CONTEXT)
    errors = np.abs(found - exact).max(-1) / exact.std()
    assert np.median(errors) > 1e-3
