"""The embedded model with int8 keys and values, from checkpoint to verified bundle."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.golden import Golden
from pocketlm.runtime_py.tokenizer import read_tokenizer
from pocketlm.runtime_py.verification import verify
from tests.conftest import INT8_BACKENDS, PICO

TOKENS = 384  # past four wraps of a ring of 64 + 32 - 1 slots


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_artifact_answers_as_the_eager_model_that_rounds_alike(
    pico_int8_bundle: Path, backend: str
) -> None:
    bundle = open_bundle(pico_int8_bundle)
    result = verify(bundle, backend)
    assert result.passed, result
    golden = Golden.from_json((pico_int8_bundle / f"golden/{backend}.json").read_text())
    entry = bundle.backend(backend)
    assert golden.attention_quantization == entry.attention_quantization != "none"
    # What rounding explains is measured while building, so its size is the processor's own. That it
    # hides nothing is for the strict part, which rounds keys and values alone. Both bounds have two
    # digits, and caches may be most of what is rounded.
    assert result.strict.state == "passed"
    assert result.strict.tolerance_std == golden.exact_tolerance <= golden.tolerance


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_cache_bytes_equal_the_formula(pico_int8_bundle: Path, backend: str) -> None:
    document = json.loads((pico_int8_bundle / "manifest.json").read_text())
    layers, entry = document["model"]["layers"], document["backends"][backend]
    heads, size = (layers[0][key] for key in ("num_key_value_heads", "head_dim"))
    slots = sum(min(512, (layer["window"] or 512) + 32 - 1) for layer in layers)
    constant = entry["caches"][0]["quantization"] == "per_channel"
    head_bytes = size + (0 if constant else 5)
    assert entry["kv_cache_bytes"] == 2 * slots * heads * head_bytes
    assert entry["kv_scale_bytes"] == (len(layers) * 2 * heads * size * 4 if constant else 0)


def decoded(bundle: Path, backend: str, tokens: list[int]) -> NDArray[np.float64]:
    """Return the log-probabilities after each token, fed one by one."""
    with open_session(bundle, backend=backend) as session:
        rows = np.stack([session.decode(token) for token in tokens]).astype(np.float64)
    rows -= rows.max(-1, keepdims=True)
    return np.asarray(rows - np.log(np.exp(rows).sum(-1, keepdims=True)))


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_held_out_text_is_predicted_as_with_float32_caches(
    pico_bundle: Path, pico_int8_bundle: Path, backend: str
) -> None:
    text = (PICO / "held_out.txt").read_text(encoding="utf-8")
    tokens = read_tokenizer(open_bundle(pico_bundle)).encode_prompt(text)[:TOKENS]
    exact = decoded(pico_bundle, backend, tokens)
    rounded = decoded(pico_int8_bundle, backend, tokens)
    # docs/numerics.md: 0.06 std, 9e-4 nats and 98 % in 4,096 tokens.
    errors = np.abs(rounded - exact).max(-1) / exact.std(-1)
    assert np.median(errors) < 0.1
    divergence = (np.exp(exact) * (exact - rounded)).sum(-1)
    assert divergence.mean() < 2e-3
    assert (exact.argmax(-1) == rounded.argmax(-1)).mean() > 0.95
    following = np.arange(len(tokens) - 1), tokens[1:]
    assert abs(float(rounded[following].mean() - exact[following].mean())) < 0.02


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_greedy_ids_are_those_of_float32_caches(
    pico_bundle: Path, pico_int8_bundle: Path, backend: str
) -> None:
    golden = Golden.from_json((pico_bundle / f"golden/{backend}.json").read_text())
    rounded = Golden.from_json((pico_int8_bundle / f"golden/{backend}.json").read_text())
    # Each of the two logits may be off by the rounding of both bundles.
    tie = 2 * max(golden.tolerance, rounded.tolerance)
    agreed = steps = 0
    with open_session(pico_int8_bundle, backend=backend) as session:
        for case in golden.cases:
            session.reset()
            logits = session.prefill(case.prompt_ids)
            # After a near tie what is fed is not what a backend's own rounding would have chosen.
            for token, fed in zip(case.continuation_ids, (*case.fed_ids, None), strict=True):
                assert logits.max() - logits[token] <= tie * logits.std()
                agreed += int(logits.argmax()) == token
                steps += 1
                if fed is not None:
                    logits = session.decode(fed)
    # 4 continuations of 64 ids; where both lead by less than the rounding either may win.
    assert agreed / steps > 0.95


@pytest.mark.parametrize("backend", INT8_BACKENDS)
def test_a_session_goes_back_and_starts_anew_over_int8_caches(
    pico_int8_bundle: Path, backend: str
) -> None:
    prompt = list(range(300, 340))
    with open_session(pico_int8_bundle, backend=backend) as session:
        first = session.prefill(prompt)
        session.decode(5)
        session.rewind(len(prompt) - 1)
        again = session.decode(prompt[-1])
        # The same codes; a call of one token may sum in another order than a chunk.
        assert np.abs(again - first).max() < 0.1 * first.std()
        session.reset()
        session.prefill(prompt * 6)
        with pytest.raises(RunError, match="go back"):
            session.rewind(60)
        session.reset()
        assert np.array_equal(session.prefill(prompt), first)
