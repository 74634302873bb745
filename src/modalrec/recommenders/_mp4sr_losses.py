"""MP4SR's pre-training losses: the next item by modality, and the two sequences of a user against those of others.

Vectors have length 1. Rows of a batch whose next item is the same are no negatives of each other. What the published
code computes instead where it differs is kept beside, in the functions named `published_*`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from modalrec.training.softmax import catalogue_cross_entropy

# P rows (a position of a history with a next item), U distinct next items, D width.


def next_item(states: Sequence[Tensor], items_UD: Tensor, targets_P: Tensor, temperature: float) -> Tensor:
    """The mean of -log softmax over the distinct next items of the batch.

    Every item counts once however many rows have it: as a negative by multiplicity it would be pushed away in
    proportion to its popularity.

    Args:
        states: [P, D] each: of one sequence; or of both through a head, whose likelihoods are then added up.
        items_UD: [U, D] the items' vectors of the modality.
        targets_P: [P] rows of `items_UD`.
        temperature: Of the cosines.
    """
    if len(states) == 1:
        return catalogue_cross_entropy(states[0], items_UD, targets_P, 1 / temperature)
    logits_SPU = torch.stack([states_PD @ items_UD.T for states_PD in states]) / temperature
    own_SP = logits_SPU.gather(2, targets_P.expand(len(states), -1)[..., None])[..., 0]
    return (logits_SPU.logsumexp((0, 2)) - own_SP.logsumexp(0)).mean()


def cross_modal(first_PD: Tensor, second_PD: Tensor, same_PP: Tensor, temperature: float) -> Tensor:
    """The mean of both directions of InfoNCE between a row's two sequences.

    Negatives are the other rows' sequences of either modality.

    Args:
        first_PD: States of the one sequence.
        second_PD: Of the other.
        same_PP: Which pairs of different rows have the same next item; they do not count.
        temperature: Of the cosines.
    """
    between_PP = (first_PD @ second_PD.T / temperature).masked_fill(same_PP, -torch.inf)
    own_P = between_PP.diagonal()
    alike_PP = same_PP | torch.eye(len(same_PP), dtype=torch.bool, device=same_PP.device)
    losses = []
    for states_PD, across_PP in ((first_PD, between_PP), (second_PD, between_PP.T)):
        inside_PP = (states_PD @ states_PD.T / temperature).masked_fill(alike_PP, -torch.inf)
        losses.append((torch.cat([across_PP, inside_PP], dim=1).logsumexp(1) - own_P).mean())
    return (losses[0] + losses[1]) / 2


def same_next(targets_P: Tensor) -> Tensor:
    """[P, P] which different rows have the same next item."""
    same_PP = targets_P[:, None] == targets_P
    return same_PP & ~torch.eye(len(targets_P), dtype=torch.bool, device=targets_P.device)


def published_next_item(states: Sequence[Tensor], items_PD: Tensor, same_PP: Tensor, temperature: float) -> Tensor:
    """As published: rows of the same next item are not left out, their cosines are set to 0 and count exp(0) = 1.

    Args:
        states: As of `next_item`.
        items_PD: The vector of each row's next item.
        same_PP: As of `cross_modal`.
        temperature: Of the cosines.
    """
    logits_SPP = torch.stack([states_PD @ items_PD.T for states_PD in states]) / temperature
    own_P = logits_SPP.diagonal(dim1=1, dim2=2).logsumexp(0)
    return (logits_SPP.masked_fill(same_PP, 0.0).logsumexp((0, 2)) - own_P).mean()


def published_cross_modal(first_PD: Tensor, second_PD: Tensor, same_PP: Tensor, temperature: float) -> Tensor:
    """As published: masked pairs count exp(0) = 1, and both directions take the negatives of the first one.

    Args: see `cross_modal`.
    """
    between_PP = first_PD @ second_PD.T / temperature
    own_P, between_PP = between_PP.diagonal(), between_PP.masked_fill(same_PP, 0.0)
    itself_PP = torch.eye(len(same_PP), dtype=torch.bool, device=same_PP.device)
    total = torch.zeros((), device=own_P.device)
    for states_PD in (first_PD, second_PD):
        inside_PP = (states_PD @ states_PD.T / temperature).masked_fill(same_PP, 0.0).masked_fill(itself_PP, -torch.inf)
        total = total + (torch.cat([between_PP, inside_PP], dim=1).logsumexp(1) - own_P).mean()
    return total / 2
