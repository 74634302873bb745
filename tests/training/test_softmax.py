"""The catalogue's cross-entropy in chunks against torch's, value and gradients, in float64."""

import pytest
import torch
from torch.nn import functional as F

from modalrec.training import softmax
from modalrec.training.softmax import catalogue_cross_entropy


@pytest.mark.parametrize("floats", [1, 40 * 17, 2**20])
@pytest.mark.parametrize("scale", [1.0, 14.0])
def test_equals_the_cross_entropy_of_all_logits(floats: int, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "CHUNK_FLOATS", floats)
    torch.manual_seed(0)
    states = torch.randn(53, 6, dtype=torch.float64, requires_grad=True)
    items = torch.randn(40, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(40, (53,))
    ours = catalogue_cross_entropy(states, items, targets, scale)
    theirs = F.cross_entropy(scale * states @ items.T, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    for mine, true in zip(
        torch.autograd.grad(3 * ours, [states, items]), torch.autograd.grad(3 * theirs, [states, items]), strict=True
    ):
        torch.testing.assert_close(mine, true, rtol=1e-10, atol=1e-13)


def test_holds_no_more_logits_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = torch.Tensor.logsumexp
    monkeypatch.setattr(torch.Tensor, "logsumexp", lambda self, dim: seen.append(self.numel()) or real(self, dim))
    monkeypatch.setattr(softmax, "CHUNK_FLOATS", 20 * 30)
    catalogue_cross_entropy(torch.randn(100, 4), torch.randn(30, 4), torch.zeros(100, dtype=torch.int64))
    assert max(seen) <= 20 * 30
    assert len(seen) == 5


def test_far_logits_neither_overflow_nor_lose_the_target() -> None:
    states = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    items = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    loss = catalogue_cross_entropy(states, items, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == 1000.0
    assert torch.isfinite(states.grad).all()
    assert torch.isfinite(items.grad).all()
