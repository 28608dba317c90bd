"""The loss: sums over targets, in chunks."""

import torch
import torch.nn.functional as F

from mmcorpus.training.loss import token_losses


def test_chunks_give_the_loss_and_gradients_of_all_logits_at_once() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(37, 16, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(0, 50, (37,))
    whole = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
    expected = torch.autograd.grad(whole.sum(), (hidden, weight))
    chunked = token_losses(hidden, weight, targets, chunk=10)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(torch.autograd.grad(chunked.sum(), (hidden, weight)), expected)


def test_the_loss_is_fp32_when_the_model_is_not() -> None:
    hidden = torch.randn(4, 8, dtype=torch.bfloat16)
    assert token_losses(hidden, torch.randn(9, 8, dtype=torch.bfloat16), torch.arange(4)).dtype == torch.float32


def test_no_targets_is_a_zero_with_gradients() -> None:
    hidden = torch.randn(0, 8, requires_grad=True)
    loss = token_losses(hidden, torch.randn(9, 8), torch.zeros(0, dtype=torch.long)).sum()
    loss.backward()
    assert float(loss.detach()) == 0.0
