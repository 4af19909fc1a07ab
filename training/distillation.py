"""The loss: how far the student's predictions are from its teacher's.

Rows of logits are as wide as the vocabulary, so that those of a whole batch would take gigabytes:
they are made, compared and turned into gradients a few at a time.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Elements of one block of logits, of which the teacher has one and the student one.
_BLOCK_ELEMENTS = 1 << 26
# Elements of a block that are compared at once, several passes over each: they stay in a
# processor's cache.
_CACHED_ELEMENTS = 1 << 19


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
        rows, vocabulary = len(hidden), len(head)
        hidden_gradient = torch.empty_like(hidden)
        head_gradient = torch.zeros_like(head) if head.requires_grad else None
        total = hidden.new_zeros(())
        random = torch.Generator(hidden.device).manual_seed(teacher.seed)
        step = min(rows, max(1, _BLOCK_ELEMENTS // vocabulary))
        # Made once: pages of memory that is new are slower than what is computed in them.
        buffers = hidden.new_empty(2, step, vocabulary)
        at_once = max(1, _CACHED_ELEMENTS // vocabulary) if hidden.device.type == "cpu" else step
        for start in range(0, rows, step):
            block = hidden[start : start + step]
            expected, logits = buffers[:, : len(block)]
            torch.mm(teacher.hidden[start : start + step], teacher.head.T, out=expected)
            torch.mm(block, head.T, out=logits)
            for pair in zip(expected.split(at_once), logits.split(at_once), strict=True):
                total += _compare(*pair, softcap, teacher, random)
            if not any(context.needs_input_grad):  # held-out text is only measured
                continue
            gradient = logits.div_(rows)
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


def _compare(
    expected: Tensor,
    logits: Tensor,
    softcap: float | None,
    teacher: Teacher,
    random: torch.Generator,
) -> Tensor:
    """Return the sum of KL divergences, and write its gradient in place of the logits.

    Args:
        expected: the teacher's logits, [rows, V], before the cap; they are lost.
        logits: the student's, likewise.
    """
    if teacher.softcap is not None:
        expected.div_(teacher.softcap).tanh_().mul_(teacher.softcap)
    expected = torch.log_softmax(expected, -1)
    wanted = expected.exp()
    if teacher.targets is not None:
        wanted = _sampled(expected, wanted, teacher.targets, random)
        # What is not wanted counts nothing, also where its logarithm has no end.
        expected = wanted.clamp(min=1e-30).log_()
    slope = None
    if softcap is not None:
        torch.tanh(logits.div_(softcap), out=logits)
        slope = 1 - logits.square()
        logits.mul_(softcap)
    found = torch.log_softmax(logits, -1)
    total = torch.dot(wanted.flatten(), expected.sub_(found).flatten())
    torch.sub(found.exp_(), wanted, out=logits)
    if slope is not None:
        logits.mul_(slope)
    return total


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
