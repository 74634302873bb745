"""Product codebooks: a vector is cut into slices, and each slice becomes the nearest of its own codes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from modalrec.training.kmeans import kmeans, nearest

# N items, D dimension, L slices, V codes of a slice, W width of a slice: the last one is filled up with zeros.


def slice_width(dimension: int, levels: int) -> int:
    """W, rounded up."""
    return -(-dimension // levels)


def slices(vectors_ND: Tensor, levels: int) -> Tensor:
    """The parts of each vector [L, N, W]."""
    width = slice_width(vectors_ND.shape[1], levels)
    padded = F.pad(vectors_ND, (0, levels * width - vectors_ND.shape[1]))
    return padded.view(len(vectors_ND), levels, width).transpose(0, 1).contiguous()


def learn(vectors_ND: Tensor, levels: int, size: int, iterations: int) -> Tensor:
    """K-means centres of each slice [L, V, W]."""
    return torch.stack([kmeans(part, size, iterations=iterations).centres_VD for part in slices(vectors_ND, levels)])


def choose(vectors_ND: Tensor, codes_LVW: Tensor) -> Tensor:
    """The nearest code of each slice [N, L]."""
    parts = slices(vectors_ND, len(codes_LVW))
    return torch.stack([nearest(part, codes_VW)[0] for part, codes_VW in zip(parts, codes_LVW, strict=True)], 1)


def join(codes_NL: Tensor, codes_LVW: Tensor, dimension: int) -> Tensor:
    """The vectors that codes stand for [N, D]."""
    levels = torch.arange(len(codes_LVW), device=codes_NL.device)
    return codes_LVW[levels, codes_NL].flatten(1)[:, :dimension]
