"""The loss: sums over targets, in chunks."""

import torch
import torch.nn.functional as F

from mmcorpus.training.loss import Head, token_losses


def test_chunks_give_the_loss_and_gradients_of_all_logits_at_once() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(37, 16, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(0, 50, (37,))
    whole = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
    expected = torch.autograd.grad(whole.sum(), (hidden, weight))
    chunked = token_losses(hidden, Head(weight_VD=weight), targets, chunk=10)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(torch.autograd.grad(chunked.sum(), (hidden, weight)), expected)


def test_the_loss_is_fp32_when_the_model_is_not() -> None:
    hidden = torch.randn(4, 8, dtype=torch.bfloat16)
    head = Head(weight_VD=torch.randn(9, 8, dtype=torch.bfloat16))
    assert token_losses(hidden, head, torch.arange(4)).dtype == torch.float32


def test_no_targets_is_a_zero_with_gradients() -> None:
    hidden = torch.randn(0, 8, requires_grad=True)
    loss = token_losses(hidden, Head(weight_VD=torch.randn(9, 8)), torch.zeros(0, dtype=torch.long)).sum()
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_log_z_is_the_logarithm_of_the_sum_in_chunks_too() -> None:
    torch.manual_seed(0)
    hidden, targets = torch.randn(7, 8, requires_grad=True), torch.arange(7)
    head = Head(weight_VD=torch.randn(9, 8), bias_V=torch.randn(9))
    whole = head.logits(hidden).exp().sum(-1).log().square()
    for chunk in (3, 100):
        losses, squares = token_losses(hidden, head, targets, chunk, z=True)
        torch.testing.assert_close(squares, whole)
        torch.testing.assert_close(losses, F.cross_entropy(head.logits(hidden), targets, reduction="none"))
