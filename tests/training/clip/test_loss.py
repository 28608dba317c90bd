import torch

from mmcorpus.training.clip.loss import contrastive_loss
from mmcorpus.training.parallel import World

ONE = World(rank=0, size=1, device=torch.device("cpu"))


def vectors(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(2, count, 7, generator=generator)
    images, texts = torch.nn.functional.normalize(raw, dim=-1)
    return images.clone().requires_grad_(), texts.clone().requires_grad_()


def reference(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    from open_clip.loss import ClipLoss

    loss: torch.Tensor = ClipLoss()(images, texts, scale)
    return loss


def test_it_is_open_clips_loss_and_so_are_its_gradients() -> None:
    images, texts = vectors(9)
    scale = torch.tensor(14.0, requires_grad=True)
    ours = contrastive_loss(images, texts, scale, torch.ones(9, dtype=torch.bool), ONE) / 9
    mine = torch.autograd.grad(ours, [images, texts, scale])
    theirs = reference(images, texts, scale)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(mine, torch.autograd.grad(theirs, [images, texts, scale]))


def test_a_broken_pair_neither_learns_nor_is_told_apart_from() -> None:
    images, texts = vectors(6)
    valid = torch.tensor([True, True, False, True, False, True])
    scale = torch.tensor(10.0)
    ours = contrastive_loss(images, texts, scale, valid, ONE)
    torch.testing.assert_close(ours / 4, reference(images[valid], texts[valid], scale))
    gradient = torch.autograd.grad(ours, [images])[0]
    assert torch.equal(gradient[~valid], torch.zeros(2, 7))
    assert gradient.isfinite().all()


def test_a_batch_of_broken_pairs_has_no_loss() -> None:
    images, texts = vectors(3)
    loss = contrastive_loss(images, texts, torch.tensor(5.0), torch.zeros(3, dtype=torch.bool), ONE)
    loss.backward()
    assert loss.item() == 0.0
    assert images.grad is not None
    assert torch.equal(images.grad, torch.zeros(3, 7))
