"""GRU4Rec's losses and cells as plain formulas, for autograd in float64."""

import torch
from torch import Tensor

# M lanes, C columns with repeats.


def plain_cross_entropy(scores_MC: Tensor) -> Tensor:
    losses = []
    for lane, row in enumerate(scores_MC):
        share = torch.exp(row[lane] - torch.logsumexp(row, 0))
        losses.append(-torch.log(share + 1e-24))
    return torch.stack(losses)


def plain_bpr_max(scores_MC: Tensor, elu: float, bpreg: float) -> Tensor:
    losses = []
    for lane, row in enumerate(scores_MC):
        o = torch.where(row > 0, row, elu * (torch.exp(row.clamp(max=0)) - 1)) if elu else row
        others = torch.cat([o[:lane], o[lane + 1 :]])
        w = torch.softmax(others, 0)
        pull = (w * torch.sigmoid(o[lane] - others)).sum()
        losses.append(-torch.log(pull + 1e-24) + bpreg * (w * others**2).sum())
    return torch.stack(losses)


def plain_cell(x: Tensor, h: Tensor, weights: list[Tensor]) -> Tensor:
    """A GRU whose reset gate acts after the recurrent product, with two biases; gates in the order r, z, n."""
    w_ih, w_hh, b_ih, b_hh = weights
    n = h.shape[1]
    a, b = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    r, z = torch.sigmoid(a[:, :n] + b[:, :n]), torch.sigmoid(a[:, n : 2 * n] + b[:, n : 2 * n])
    c = torch.tanh(a[:, 2 * n :] + r * b[:, 2 * n :])
    return (1 - z) * c + z * h


def plain_first(x: Tensor, h: Tensor, recurrent: Tensor, candidate: Tensor, bias: Tensor) -> Tensor:
    """The GRU of 2014: the reset gate acts on the state before the product; gates in the order candidate, r, z."""
    n = h.shape[1]
    x = x + bias
    r = torch.sigmoid(x[:, n : 2 * n] + h @ recurrent[:, :n])
    z = torch.sigmoid(x[:, 2 * n :] + h @ recurrent[:, n:])
    return (1 - z) * h + z * torch.tanh(x[:, :n] + (r * h) @ candidate)
