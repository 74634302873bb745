"""The losses of GRU4Rec on scores whose first columns are the lanes' targets, in torch."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# M lanes, C columns: M targets, of which lane i's own is column i, then the samples.

EPSILON = 1e-24


def lane_losses(scores_MC: Tensor, config: Any, correction_C: Tensor | None) -> Tensor:
    """The loss of each lane [M], as the configuration has it.

    Args:
        scores_MC: Scores with biases.
        config: A `GRU4RecConfig`.
        correction_C: Is taken from the scores before cross-entropy.
    """
    if config.loss == "bpr-max":
        return bpr_max(scores_MC, config.elu_param, config.bpreg)
    return cross_entropy(scores_MC if correction_C is None else scores_MC - correction_C)


def cross_entropy(scores_MC: Tensor) -> Tensor:
    """-ln(softmax(s)_own + 1e-24)."""
    own_M = torch.softmax(scores_MC, dim=1).diagonal()
    return -torch.log(own_M + EPSILON)


def bpr_max(scores_MC: Tensor, elu: float, bpreg: float) -> Tensor:
    """-ln(sum_j w_j sigmoid(o_own - o_j) + 1e-24) + bpreg * sum_j w_j o_j^2 (Hidasi and Karatzoglou 2018, eq. 9, 12).

    o is the ELU of the scores, or the scores where `elu` is 0; w is the softmax of o over all columns but the own one.
    """
    out_MC = F.elu(scores_MC, elu) if elu else scores_MC
    own_M1 = out_MC.diagonal()[:, None]
    others_MC = out_MC.masked_fill(torch.eye(*out_MC.shape, dtype=torch.bool, device=out_MC.device), -math.inf)
    # A lane without any negative has no weights, hence a pull of zero.
    weight_MC = torch.nan_to_num(torch.softmax(others_MC, dim=1)) if out_MC.shape[1] == 1 else others_MC.softmax(1)
    pull_M = (weight_MC * torch.sigmoid(own_M1 - out_MC)).sum(1)
    return -torch.log(pull_M + EPSILON) + bpreg * (weight_MC * out_MC.square()).sum(1)
