"""The loss: how far the student's predictions are from its teacher's.

Rows of logits are as wide as the vocabulary, so that those of a whole batch would take gigabytes:
they are made, compared and turned into gradients a few at a time.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Elements of one block of logits; a few such blocks live at once.
_BLOCK_ELEMENTS = 1 << 25


@dataclass(frozen=True)
class Teacher:
    """What gives the probabilities that are learned.

    Attributes:
        hidden: [rows, E], inputs of its head.
        head: [V, E].
        softcap: cap * tanh(logit / cap); None caps nothing.
        targets: tokens of each row that are drawn by their probability and share all of it, as the
            Gemma 3 report (arXiv 2503.19786) does with 256; None takes all tokens.
        seed: of what is drawn.
    """

    hidden: Tensor
    head: Tensor
    softcap: float | None
    targets: int | None
    seed: int


def distillation_loss(
    hidden: Tensor, head: Tensor, softcap: float | None, teacher: Teacher
) -> Tensor:
    """Return the mean KL divergence of the student from its teacher, in nats.

    Args:
        hidden: [rows, E], inputs of the student's head.
        head: [V, E].
    """
    loss: Tensor = _Distillation.apply(hidden, head, softcap, teacher)
    return loss


class _Distillation(torch.autograd.Function):
    """Makes the gradients together with the loss: nothing as wide as the vocabulary is kept."""

    @staticmethod
    def forward(
        context: Any, hidden: Tensor, head: Tensor, softcap: float | None, teacher: Teacher
    ) -> Tensor:
        rows = len(hidden)
        hidden_gradient = torch.empty_like(hidden)
        head_gradient = torch.zeros_like(head) if head.requires_grad else None
        total = hidden.new_zeros(())
        random = torch.Generator(hidden.device).manual_seed(teacher.seed)
        step = max(1, _BLOCK_ELEMENTS // len(head))
        for start in range(0, rows, step):
            block = hidden[start : start + step]
            expected = _log_probabilities(
                teacher.hidden[start : start + step], teacher.head, teacher.softcap
            )
            wanted = expected.exp()
            if teacher.targets is not None:
                wanted = _sampled(expected, wanted, teacher.targets, random)
            logits = block @ head.T
            slope = None
            if softcap is not None:
                logits = torch.tanh(logits / softcap)
                slope = 1 - logits.square()
                logits *= softcap
            found = torch.log_softmax(logits, -1)
            # What is not wanted counts nothing, also where its logarithm has no end.
            total += (wanted * (wanted.clamp(min=1e-30).log() - found)).sum()
            gradient = found.exp_().sub_(wanted)
            gradient /= rows
            if slope is not None:
                gradient *= slope
            torch.mm(gradient, head, out=hidden_gradient[start : start + step])
            if head_gradient is not None:
                head_gradient.addmm_(gradient.T, block)
        context.save_for_backward(hidden_gradient, head_gradient)
        return total / rows

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, head_gradient = context.saved_tensors
        head = None if head_gradient is None else head_gradient * gradient
        return hidden_gradient * gradient, head, None, None


def _log_probabilities(hidden: Tensor, head: Tensor, softcap: float | None) -> Tensor:
    logits = hidden @ head.T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return torch.log_softmax(logits, -1)


def _sampled(
    logarithms: Tensor, probabilities: Tensor, count: int, random: torch.Generator
) -> Tensor:
    """Return the probabilities of `count` tokens a row, drawn by them, made to sum to one."""
    # The largest of logarithms with Gumbel noise are such a draw, without a token twice.
    noise = torch.empty_like(logarithms).exponential_(generator=random).log_()
    chosen = (logarithms - noise).topk(min(count, logarithms.shape[-1])).indices
    kept = torch.zeros_like(probabilities)
    kept.scatter_(-1, chosen, probabilities.gather(-1, chosen))
    return kept / kept.sum(-1, keepdim=True)
