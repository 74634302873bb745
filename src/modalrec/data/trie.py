"""A trie over semantic IDs in compressed rows, for decoding that can only name real items.

Items are sorted by their codes. A node of level d is a distinct prefix of d codes; nodes of a level are numbered in
sorted order, so that a node's children, and the items below it, are ranges. A leaf is a whole semantic ID: one item, or
all the items that share it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# N items, L levels; level d has n_d nodes; n_0 is 1 (the root), n_L is the number of distinct semantic IDs.


@dataclass(frozen=True)
class Trie:
    """The trie, as tensors on one device.

    Attributes:
        order: [N] item index of each sorted place.
        rank: [N] sorted place of each item index.
        leaf: [N] node of the last level of each item index.
        first_child: L tensors [n_d + 1]; node i of level d has the nodes `first_child[d][i:i + 2]` of level d + 1.
        code: L tensors [n_(d+1)]; the last code of each node of level d + 1.
        first_item: L + 1 tensors [n_d + 1]; sorted places of the items below node i of level d.
        widest: L numbers; the most children that a node of the level has.
        largest: The most items that share a semantic ID.
    """

    order: Tensor
    rank: Tensor
    leaf: Tensor
    first_child: list[Tensor]
    code: list[Tensor]
    first_item: list[Tensor]
    widest: list[int]
    largest: int

    @classmethod
    def build(cls, codes: NDArray[np.int32], device: str | torch.device = "cpu") -> "Trie":
        """Builds the trie of [N, L] codes."""
        n, levels = codes.shape
        order = np.lexsort(codes.T[::-1])
        ordered = codes[order]
        changed = np.ones((n, levels), bool)
        changed[1:] = np.logical_or.accumulate(ordered[1:] != ordered[:-1], axis=1)
        starts = [np.zeros(1, np.int64), *(np.flatnonzero(changed[:, level]) for level in range(levels))]
        first_child = [np.append(np.searchsorted(starts[d + 1], starts[d]), len(starts[d + 1])) for d in range(levels)]
        rank, leaf = np.empty(n, np.int64), np.empty(n, np.int64)
        rank[order] = np.arange(n)
        leaf[order] = np.cumsum(changed[:, -1]) - 1
        as_tensor = lambda array: torch.as_tensor(array, dtype=torch.int64, device=device)  # noqa: E731
        return cls(
            as_tensor(order),
            as_tensor(rank),
            as_tensor(leaf),
            [as_tensor(array) for array in first_child],
            [as_tensor(ordered[starts[d + 1], d]) for d in range(levels)],
            [as_tensor(np.append(start, n)) for start in starts],
            [int(np.diff(array).max()) for array in first_child],
            int(np.diff(np.append(starts[-1], n)).max()),
        )

    def children(self, level: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The children of nodes of a level, padded to the widest node.

        Args:
            level: Of the nodes.
            nodes: [...] node numbers.

        Returns:
            Node numbers [..., widest] of the next level (clamped where padded), and whether each is a child.
        """
        first, end = self.first_child[level][nodes], self.first_child[level][nodes + 1]
        found = first[..., None] + torch.arange(self.widest[level], device=nodes.device)
        real = found < end[..., None]
        return found.clamp_(max=len(self.code[level]) - 1), real
