"""The loss against its definition, in one piece, by autograd."""

import pytest
import torch
from torch import Tensor

from pocketlm.training import distillation
from pocketlm.training.distillation import Teacher, distillation_loss

ROWS, SIZE, VOCABULARY = 37, 8, 50


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_loss(hidden: Tensor, head: Tensor, teacher: Teacher, softcap: float | None) -> Tensor:
    def logarithms(h: Tensor, w: Tensor, cap: float | None) -> Tensor:
        logits = h @ w.T
        return torch.log_softmax(logits if cap is None else cap * torch.tanh(logits / cap), -1)

    expected = logarithms(teacher.hidden, teacher.head, teacher.softcap)
    found = logarithms(hidden, head, softcap)
    return (expected.exp() * (expected - found)).sum(-1).mean()


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_loss_and_gradients_are_those_of_kl_divergence(
    softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of four rows, the last of one.
    monkeypatch.setattr(distillation, "_BLOCK_ELEMENTS", 4 * VOCABULARY)
    teacher = Teacher(drawn(1, ROWS, SIZE), drawn(2, VOCABULARY, SIZE), softcap, None, 0)
    found, expected = (
        [drawn(3, ROWS, SIZE).requires_grad_(), drawn(4, VOCABULARY, SIZE).requires_grad_()]
        for _ in range(2)
    )
    loss = distillation_loss(*found, softcap, teacher)
    plain = plain_loss(*expected, teacher, softcap)
    (2 * loss).backward()
    (2 * plain).backward()
    torch.testing.assert_close(loss, plain)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_head_alone_has_the_same_gradient() -> None:
    teacher = Teacher(drawn(1, ROWS, SIZE), drawn(2, VOCABULARY, SIZE), None, None, 0)
    hidden, head = drawn(3, ROWS, SIZE), drawn(4, VOCABULARY, SIZE).requires_grad_()
    gradient = torch.autograd.grad(distillation_loss(hidden, head, None, teacher), head)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(plain_loss(hidden, head, teacher, None), head)
    )


def test_a_student_like_its_teacher_loses_nothing() -> None:
    hidden, head = drawn(1, ROWS, SIZE).requires_grad_(), drawn(2, VOCABULARY, SIZE)
    loss = distillation_loss(hidden, head, None, Teacher(hidden.detach(), head, None, None, 0))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    assert hidden.grad is not None
    assert float(hidden.grad.abs().max()) == pytest.approx(0, abs=1e-12)


def test_all_tokens_drawn_are_the_whole_distribution() -> None:
    hidden, head = drawn(3, ROWS, SIZE), drawn(4, VOCABULARY, SIZE)
    losses = [
        distillation_loss(
            hidden,
            head,
            None,
            Teacher(drawn(1, ROWS, SIZE), drawn(2, VOCABULARY, SIZE), None, n, 5),
        )
        for n in (None, VOCABULARY)
    ]
    torch.testing.assert_close(*losses)


def test_drawn_tokens_share_all_probability() -> None:
    logarithms = torch.log_softmax(drawn(6, 200, VOCABULARY), -1)
    random = torch.Generator().manual_seed(0)
    kept = distillation._sampled(logarithms, logarithms.exp(), 5, random)
    assert ((kept > 0).sum(-1) == 5).all()
    torch.testing.assert_close(kept.sum(-1), torch.ones(200, dtype=torch.float64))
    # By their probability: likely tokens are drawn more often than unlikely ones.
    likeliest = logarithms.argmax(-1, keepdim=True)
    assert float((kept.gather(-1, likeliest) > 0).double().mean()) > 0.2  # evenly drawn, a tenth


def test_the_same_seed_draws_the_same_tokens() -> None:
    hidden, head = drawn(3, ROWS, SIZE), drawn(4, VOCABULARY, SIZE)
    teachers = [
        Teacher(drawn(1, ROWS, SIZE), drawn(2, VOCABULARY, SIZE), None, 5, seed)
        for seed in (1, 1, 2)
    ]
    first, again, other = (float(distillation_loss(hidden, head, None, t)) for t in teachers)
    assert first == again != other
