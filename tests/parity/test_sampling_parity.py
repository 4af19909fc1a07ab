"""Our filters against transformers' logits processors, chained as its `generate` chains them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketlm.runtime_py.sampling import SamplingOptions, candidates, penalized

torch = pytest.importorskip("torch")
logits_process = pytest.importorskip("transformers.generation.logits_process")


def reference(logits: np.ndarray, options: SamplingOptions) -> np.ndarray:
    """Probabilities that transformers would draw from."""
    scores = torch.from_numpy(logits.astype(np.float64))[None]
    chain = [logits_process.TemperatureLogitsWarper(options.temperature)]
    if options.top_k:
        chain.append(logits_process.TopKLogitsWarper(options.top_k))
    if options.top_p < 1:
        chain.append(logits_process.TopPLogitsWarper(options.top_p))
    chain.append(logits_process.MinPLogitsWarper(options.min_p))
    for processor in chain:
        scores = processor(None, scores)
    return scores.softmax(-1)[0].numpy()


# Distinct logits: which of two equal ones top-p drops depends on the sort. Odd fractions keep sums
# of probabilities away from top_p itself, where the last bit would decide.
DISTINCT = st.lists(st.integers(-3000, 3000), min_size=2, max_size=60, unique=True).map(
    lambda values: np.array(values, np.float32) / 311
)


@settings(deadline=None, derandomize=True)
@given(
    DISTINCT,
    st.sampled_from([0.3, 0.7, 1.0, 2.5]),
    st.sampled_from([0, 1, 5, 20, 100]),
    st.sampled_from([0.1234, 0.5077, 0.8011, 0.9503, 1.0]),
    st.sampled_from([0.0, 0.0513, 0.3077, 1.0]),
)
def test_probabilities_equal_those_of_transformers(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    options = SamplingOptions(temperature, top_k, top_p, min_p)
    expected = reference(logits, options)
    ids, probabilities = candidates(logits, options)
    found = np.zeros(len(logits))
    found[ids] = probabilities
    # Both in float64; exp and sums in another order.
    np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(deadline=None, derandomize=True)
@given(DISTINCT, st.lists(st.integers(0, 70), max_size=20), st.floats(0.1, 5))
def test_the_repetition_penalty_equals_that_of_transformers(
    logits: np.ndarray, seen: list[int], penalty: float
) -> None:
    seen = [token for token in seen if token < len(logits)]
    processor = logits_process.RepetitionPenaltyLogitsProcessor(penalty)
    history = torch.tensor([seen], dtype=torch.long)
    expected = processor(history, torch.from_numpy(logits.copy())[None])[0].numpy()
    # One float32 operation on each side.
    np.testing.assert_allclose(penalized(logits, seen, penalty), expected, rtol=1e-6)
