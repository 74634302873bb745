"""Sums of table look-ups over the whole catalogue, and the best of them, a tile of items at a time."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec import compiled
from modalrec.recommenders._encoder_retrieve_kernels import LANES, keep_best, sum_few, sum_tables

# N items, S items of a tile, L levels, K codes of all levels, G histories of a group, H hidden pairs, k of a list.

CPU = torch.device("cpu")
FEW = 16
"""Fewer histories than this are not filled up to LANES; with torch one takes as long as this many."""
TILES = {True: 1024, False: 65_536}
"""Items at a time of the compiled loops, which keep a tile in the cache, and of torch, which has a price a call."""


class Codes(nn.Module):
    """The codes of a catalogue, in the smallest type that can be an index; they are no weights."""

    codes_NL: Tensor
    starts_L: Tensor

    def __init__(self, codes_NL: NDArray[np.int32], sizes: Sequence[int]) -> None:
        super().__init__()
        kind = np.uint8 if max(sizes) <= 2**8 else np.int16 if max(sizes) <= 2**15 else np.int32
        self.register_buffer("codes_NL", torch.from_numpy(codes_NL.astype(kind)), persistent=False)
        starts = torch.tensor([0, *np.cumsum(sizes)[:-1].tolist()], dtype=torch.int32)
        self.register_buffer("starts_L", starts, persistent=False)

    def forward(self, items: Tensor | slice) -> Tensor:
        """The codes of items [..., L], numbered over all levels."""
        return self.codes_NL[items].int() + self.starts_L

    def sum_into(self, table_KG: Tensor, begin: int, end: int, out_SG: Tensor) -> None:
        """Writes for each of some items the sum of its codes' rows; the same codes give the same bits.

        Args:
            table_KG: A number for each code and history.
            begin: The first item,
            end: and the one after the last.
            out_SG: Where to write, for as many histories as it has columns.
        """
        if _fast(table_KG) and out_SG.device == CPU and out_SG.shape[1] == table_KG.shape[1] and out_SG.stride(1) == 1:
            codes_SL, starts_L = self.codes_NL[begin:end].numpy(), self.starts_L.numpy()
            if len(table_KG.T) < FEW:
                sum_few(codes_SL, starts_L, table_KG.T.numpy(), out_SG.numpy())
            else:
                sum_tables(codes_SL, starts_L, table_KG.numpy(), out_SG.numpy())
        else:
            sums_SG = F.embedding_bag(self(slice(begin, end)), table_KG, mode="sum")
            out_SG.copy_(sums_SG[:, : out_SG.shape[1]])

    def best(
        self, table_KG: Tensor, hidden: Sequence[NDArray[np.int32]], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k items with the largest sums for each history, of equal ones the first.

        Args:
            table_KG: A number for each code and history.
            hidden: Items that each of the first histories may not get.
            k: Length of the lists.

        Returns:
            Items [G, k], -1 where there are no more, and their sums.
        """
        rows_H = np.repeat(np.arange(len(hidden)), [len(own) for own in hidden])
        items_H = np.concatenate([np.zeros(0, np.int32), *hidden]).astype(np.int64)
        order = np.argsort(items_H, kind="stable")
        rows_H, items_H = rows_H[order], items_H[order]
        width, fast = table_KG.shape[1], _fast(table_KG)
        best_Gk = table_KG.new_full((width, k), -torch.inf)
        items_Gk = torch.full_like(best_Gk, -1, dtype=torch.int64)
        tile = TILES[fast]
        out_SG = table_KG.new_empty(tile, width)
        for begin in range(0, len(self.codes_NL), tile):
            sums_SG = out_SG[: len(self.codes_NL) - begin]
            self.sum_into(table_KG, begin, begin + len(sums_SG), sums_SG)
            here = slice(*np.searchsorted(items_H, [begin, begin + len(sums_SG)]))
            sums_SG[items_H[here] - begin, rows_H[here]] = -torch.inf
            if fast:
                keep_best(sums_SG.numpy(), begin, best_Gk.numpy(), items_Gk.numpy())
            else:
                best_Gk, items_Gk = _merged(best_Gk, items_Gk, sums_SG, begin)
        return items_Gk.cpu().numpy(), best_Gk.cpu().numpy()


def tables(numbers_BK: Tensor) -> list[Tensor]:
    """Numbers as tables [K, G]: of LANES histories side by side, to which zeros are added, or of few, one by one."""
    groups = []
    for group_GK in numbers_BK.split(LANES):
        few = len(group_GK) < FEW
        if few and _fast(group_GK.T):
            groups.append(group_GK.contiguous().T)
        else:
            groups.append(F.pad(group_GK.T, (0, (FEW if few else LANES) - len(group_GK))).contiguous())
    return groups


def _fast(table_KG: Tensor) -> bool:
    return compiled.AVAILABLE and table_KG.device == CPU and table_KG.dtype == torch.float32


def _merged(best_Gk: Tensor, items_Gk: Tensor, sums_SG: Tensor, begin: int) -> tuple[Tensor, Tensor]:
    """What `keep_best` does, in torch."""
    k = best_Gk.shape[1]
    bar_G = best_Gk[:, -1]
    if len(sums_SG) > k:
        bar_G = bar_G.maximum(sums_SG.topk(k, dim=0).values[-1])  # at least k of the tile are here or above
    better_X = ((sums_SG >= bar_G) & (sums_SG > best_Gk[:, -1])).any(1).nonzero()[:, 0]
    # Stable, and what is there already comes first: of equal sums the smaller item stays ahead.
    merged_GX = torch.cat([best_Gk, sums_SG[better_X].T], dim=1)
    among_GX = torch.cat([items_Gk, (better_X + begin).expand(len(best_Gk), -1)], dim=1)
    merged_GX, order_GX = merged_GX.sort(dim=1, descending=True, stable=True)
    return merged_GX[:, :k], among_GX.gather(1, order_GX[:, :k]).where(merged_GX[:, :k] > -torch.inf, -1)
