"""Rows of logits → what each token cost, and how far two models are apart there."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_FIVE = 5


@dataclass(frozen=True)
class TokenMeasures:
    """One value a measured token; the last three are NaN without a reference.

    Attributes:
        nats: -log p(token), [n] float64.
        kl_nats: sum over the vocabulary of p log(p / q): p the reference's, q the subject's.
        top1: 1 where both find the same token likeliest, else 0.
        top5: share of the reference's five likeliest tokens that are among the subject's.
    """

    nats: NDArray[np.float64]
    kl_nats: NDArray[np.float64]
    top1: NDArray[np.float64]
    top5: NDArray[np.float64]

    @property
    def columns(self) -> NDArray[np.float64]:
        """All values, [4, n]."""
        return np.stack((self.nats, self.kl_nats, self.top1, self.top5))


def measure(logits: Tensor, targets: Tensor, reference: Tensor | None) -> TokenMeasures:
    """Measure the predictions of some tokens.

    Args:
        logits: [n, V] float32, of the subject.
        targets: [n] int64.
        reference: [n, V] float32.
    """
    subject = torch.log_softmax(logits, -1)
    nats = -subject.gather(-1, targets[:, None])[:, 0].double().numpy()
    if reference is None:
        unknown = np.full(len(nats), np.nan)
        return TokenMeasures(nats, unknown, unknown, unknown)
    expected = torch.log_softmax(reference, -1)
    # Each logarithm is right to some 1e-6 of itself in float32; sums are not to add to that.
    kl = (expected.exp() * (expected - subject)).sum(-1, dtype=torch.float64)
    ours, theirs = subject.topk(_FIVE).indices, expected.topk(_FIVE).indices
    same = (ours[:, :, None] == theirs[:, None, :]).any(1).double().mean(-1)
    top1 = (ours[:, 0] == theirs[:, 0]).double()
    # The sum of a distribution with itself may come out a little below zero.
    return TokenMeasures(nats, kl.clamp(min=0).numpy(), top1.numpy(), same.numpy())


def join(parts: list[NDArray[np.float64]]) -> TokenMeasures:
    """Return the measures of several passages as one, from their columns."""
    return TokenMeasures(*np.concatenate(parts, axis=1))
