"""Texts of about one length go through a model together: little is padded, and memory is bounded."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

# B texts of one pass, T tokens of the longest among them, N texts, D dimension.

CPU_TOKENS, GPU_TOKENS = 512, 16384
"""Tokens of a pass, padding among them. On a CPU more leave the caches (MiniLM, 136 tokens a text: 23.4 texts a second
with 512, 22.5 with 256, 20.4 with 2,048, 15.1 with 8,192); a GPU is busy with these, and its memory holds them."""


def in_passes(
    rows: Sequence[list[int]], padding: int, device: str, encode: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Encodes texts, sorted by their number of tokens, in passes of bounded size.

    Args:
        rows: [N] tokens of each text; a text without any counts as one of padding alone.
        padding: The token to pad with, behind.
        device: Where the model is.
        encode: Gives vectors [B, D] of tokens [B, T] and a mask [B, T] that is 1 for tokens and 0 for padding.

    Returns:
        Vectors [N, D] in the order of `rows`.
    """
    # Tokenizers without marks of begin or end make no token at all of an empty text.
    tokens = [torch.tensor(row or [padding]) for row in rows]
    passes = passes_of([len(row) for row in tokens], device)
    parts = []
    for places in passes:
        mask_BT = pad_sequence([torch.ones_like(tokens[row]) for row in places], batch_first=True)
        tokens_BT = pad_sequence([tokens[row] for row in places], batch_first=True, padding_value=padding)
        parts.append(encode(tokens_BT.to(device), mask_BT.to(device)))
    return put_back(parts, passes)


def passes_of(lengths: Sequence[int], device: str) -> list[list[int]]:
    """The places of texts of these numbers of tokens in passes, the shortest first."""
    limit = GPU_TOKENS if device.startswith("cuda") else CPU_TOKENS
    passes: list[list[int]] = [[]]
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if passes[-1] and (len(passes[-1]) + 1) * lengths[place] > limit:
            passes.append([])
        passes[-1].append(place)
    return passes


def put_back(parts: Sequence[Tensor], passes: Sequence[Sequence[int]]) -> Tensor:
    """The vectors [N, D] of passes in the order of the texts."""
    vectors_ND = torch.cat(list(parts))
    order = torch.tensor([place for places in passes for place in places])
    return vectors_ND[order.argsort().to(vectors_ND.device)]
