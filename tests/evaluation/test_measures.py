"""What is measured of rows of logits, against the formulas in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketlm.evaluation.logit_rows import in_step
from pocketlm.evaluation.measures import measure

ROWS = 7
VOCABULARY = 50


def logits(seed: int, spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(ROWS, VOCABULARY, generator=generator)


@given(st.integers(0, 99), st.sampled_from([0.1, 1.0, 10.0, 30.0]))
def test_every_measure_is_its_formula(seed: int, spread: float) -> None:
    ours, theirs = logits(seed, spread), logits(seed + 1000, spread)
    targets = torch.arange(ROWS)
    found = measure(ours, targets, theirs)
    q, p = (np.exp(x.double().numpy()) for x in (ours, theirs))
    q, p = q / q.sum(-1, keepdims=True), p / p.sum(-1, keepdims=True)
    # float32 logarithms, each right to 1e-6 of numbers up to 100.
    assert found.nats == pytest.approx(-np.log(q[range(ROWS), targets]), rel=2e-6, abs=1e-5)
    assert found.kl_nats == pytest.approx((p * np.log(p / q)).sum(-1), rel=2e-6, abs=1e-5)
    assert (found.top1 == (p.argmax(-1) == q.argmax(-1))).all()
    for row in range(ROWS):
        best = (set(np.argsort(-x[row])[:5].tolist()) for x in (p, q))
        assert found.top5[row] == len(set.intersection(*best)) / 5


def test_a_model_does_not_differ_from_itself() -> None:
    found = measure(logits(0, 10), torch.zeros(ROWS, dtype=torch.int64), logits(0, 10))
    assert (found.kl_nats == 0).all() and (found.top1 == 1).all() and (found.top5 == 1).all()


def test_without_a_reference_only_the_tokens_cost_is_known() -> None:
    found = measure(logits(0, 1), torch.zeros(ROWS, dtype=torch.int64), None)
    assert np.isfinite(found.nats).all() and np.isnan(found.columns[1:]).all()


@given(st.lists(st.integers(1, 5), max_size=6), st.lists(st.integers(1, 5), max_size=6))
def test_rows_of_both_keep_step(ours: list[int], theirs: list[int]) -> None:
    rows = torch.arange(40.0)[:, None]
    blocks = (rows.split([*sizes, 40 - sum(sizes)]) for sizes in (ours, theirs))
    pairs = [*in_step(*map(iter, blocks))]
    assert all(torch.equal(a, b) for a, b in pairs)
    assert sum(len(a) for a, _ in pairs) == 40
