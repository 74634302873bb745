"""What encoders that run a torch model share: pooling over tokens, and vectors as numpy arrays."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# B texts or pictures, T tokens, D dimension.

Pooling = Literal["mean", "cls", "last", "pooled"]


def pool(hidden_BTD: Tensor, mask_BT: Tensor, pooling: Pooling) -> Tensor:
    """One vector [B, D] of the token vectors: their mean, the first or the last.

    Args:
        hidden_BTD: Token vectors, padded behind.
        mask_BT: 1 for tokens, 0 for padding; every row has a token.
        pooling: Not `pooled`, which is a model's own.
    """
    if pooling == "cls":
        return hidden_BTD[:, 0]
    lengths_B = mask_BT.sum(1)
    if pooling == "last":
        return hidden_BTD[torch.arange(len(hidden_BTD), device=hidden_BTD.device), lengths_B - 1]
    # Sums of hundreds of half-precision numbers would lose what the precision has left.
    sums_BD = (hidden_BTD.float() * mask_BT.unsqueeze(-1)).sum(1)
    return sums_BD / lengths_B.unsqueeze(-1)


def to_numpy(vectors_BD: Tensor, normalise: bool = True) -> NDArray[np.float32]:
    """Vectors as float32, of length 1 where wanted; the norm is taken in float32 whatever the model computed in."""
    vectors_BD = vectors_BD.float()
    if normalise:
        vectors_BD = torch.nn.functional.normalize(vectors_BD, dim=1)
    vectors: NDArray[np.float32] = vectors_BD.cpu().numpy()
    return vectors
