"""Cross-entropy over a catalogue without ever holding the logits of a whole batch."""

from typing import Any

import torch
from torch import Tensor

# P positions, N items, D width, C positions of a chunk.

CHUNK_FLOATS = 2**20
"""Logits that are held at a time."""
LEAST_ROWS = 16


def catalogue_cross_entropy(states_PD: Tensor, items_ND: Tensor, targets_P: Tensor, scale: float = 1.0) -> Tensor:
    """The mean of -log softmax(scale * states items^T)[target], exact, in nats.

    Gradients are made chunk by chunk while the chunk's logits are still at hand, so that the batch needs three matrix
    products in all and memory for `CHUNK_FLOATS` logits.

    Args:
        states_PD: [P, D].
        items_ND: [N, D] vectors of all items.
        targets_P: [P] indices of the true items.
        scale: Of the inner products, such as an inverse temperature.
    """
    loss: Tensor = _CatalogueCrossEntropy.apply(states_PD, items_ND, targets_P, scale)
    return loss


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_PD: Tensor, items_ND: Tensor, targets_P: Tensor, scale: float) -> Tensor:
        wanted = any(ctx.needs_input_grad[:2])
        grad_states_PD = torch.empty_like(states_PD) if wanted else None
        grad_items_ND = torch.zeros_like(items_ND) if wanted else None
        n, rows = len(states_PD), max(LEAST_ROWS, CHUNK_FLOATS // len(items_ND))
        total = states_PD.new_zeros(())
        for begin in range(0, n, rows):
            states_CD, targets_C = states_PD[begin : begin + rows], targets_P[begin : begin + rows]
            logits_CN = (states_CD * scale) @ items_ND.T
            logs_C = logits_CN.logsumexp(1)
            total += (logs_C - logits_CN.gather(1, targets_C[:, None])[:, 0]).sum()
            if grad_states_PD is None or grad_items_ND is None:
                continue
            grad_CN = logits_CN.sub_(logs_C[:, None]).exp_()
            grad_CN[torch.arange(len(targets_C), device=grad_CN.device), targets_C] -= 1
            torch.mm(grad_CN, items_ND, out=grad_states_PD[begin : begin + rows])
            grad_items_ND.addmm_(grad_CN.T, states_CD)
        if grad_states_PD is not None and grad_items_ND is not None:
            ctx.save_for_backward(grad_states_PD.mul_(scale / n), grad_items_ND.mul_(scale / n))
        return total / n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_states_PD, grad_items_ND = ctx.saved_tensors
        return grad_states_PD * grads[0], grad_items_ND * grads[0], None, None
