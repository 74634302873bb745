"""Two ways through a trie of semantic IDs: the best leaves by beam search, and the likelihood of every leaf."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from modalrec.data.trie import Trie
from modalrec.recommenders import TopK
from modalrec.recommenders._encoder_decoder_form import Form

# B histories, W beams, C children, V codes of a level, S seen items, G items of a leaf, M leaves, X beams x something.


def search(form: Form, states: Any, trie: Trie, k: int, beams: int, seen_BS: Tensor | None) -> TopK:
    """Beam search that can only end at real items.

    Args:
        form: The model.
        states: What `form.encode` gave.
        trie: Of the catalogue.
        k: Length of the lists, at most `beams`.
        beams: Prefixes that are kept at every level.
        seen_BS: What is not to be recommended, from `seen`; a node with nothing else below it takes no beam.
    """
    logp_BWV, cache = form.begin(states)
    nodes_BW = torch.zeros(logp_BWV.shape[:2], dtype=torch.int64, device=logp_BWV.device)
    scores_BW = torch.zeros_like(nodes_BW, dtype=logp_BWV.dtype)
    for level in range(len(trie.code)):
        nodes_BWC, real_BWC = trie.children(level, nodes_BW)
        gained_BWC = logp_BWV.gather(2, trie.code[level][nodes_BWC])
        if seen_BS is not None:
            real_BWC &= _unseen(trie.first_item[level + 1], nodes_BWC, seen_BS)
        scores_BX = (scores_BW[..., None] + gained_BWC).masked_fill(~real_BWC, -torch.inf).flatten(1)
        scores_BW, kept_BW = scores_BX.topk(min(beams, scores_BX.shape[1]), dim=1)
        nodes_BW = nodes_BWC.flatten(1).gather(1, kept_BW)
        if level + 1 < len(trie.code):
            parents_BW = kept_BW // nodes_BWC.shape[2]
            logp_BWV, cache = form.advance(level + 1, trie.code[level][nodes_BW], parents_BW, cache)
    return _items(trie, nodes_BW, scores_BW, k, seen_BS)


def walk(form: Form, states: Any, trie: Trie, room: int) -> Tensor:
    """The log-likelihood of every leaf, [B, M]: one step of the decoder a node, in runs of about `room` items."""
    logp_B1V, cache = form.begin(states)
    first_BW = logp_B1V[:, 0, trie.code[0]]
    found_BM = first_BW.new_empty(len(first_BW), len(trie.code[-1]))
    for begin, end in _runs(trie, room):
        scores_BW, now = first_BW[:, begin:end], cache
        parents_W = torch.zeros(end - begin, dtype=torch.int64, device=first_BW.device)
        for level in range(1, len(trie.code)):
            codes_W = trie.code[level - 1][begin:end]
            rows = (len(first_BW), -1)
            logp_BWV, now = form.advance(level, codes_W.expand(rows), parents_W.expand(rows), now)
            bounds = trie.first_child[level][begin : end + 1]
            parents_W = torch.repeat_interleave(bounds.diff())
            begin, end = int(bounds[0]), int(bounds[-1])
            scores_BW = scores_BW[:, parents_W] + logp_BWV[:, parents_W, trie.code[level][begin:end]]
        found_BM[:, begin:end] = scores_BW
    return found_BM


def seen(trie: Trie, histories: Sequence[NDArray[np.int32]]) -> Tensor:
    """Sorted places [B, S] of each history's distinct items, padded with the number of items."""
    n, device = len(trie.order), trie.order.device
    unique = [np.unique(history) for history in histories]
    items = np.full((len(unique), max(map(len, unique))), n, np.int64)
    for row, own in enumerate(unique):
        items[row, : len(own)] = own
    padded = torch.cat([trie.rank, torch.tensor([n], device=device)])
    return padded[torch.as_tensor(items, device=device)].sort(1).values


def _unseen(first_item: Tensor, nodes_BWC: Tensor, seen_BS: Tensor) -> Tensor:
    """Whether each node has an item below it that the history lacks."""
    first, end = first_item[nodes_BWC].flatten(1), first_item[nodes_BWC + 1].flatten(1)
    taken = torch.searchsorted(seen_BS, end) - torch.searchsorted(seen_BS, first)
    return (taken < end - first).view(nodes_BWC.shape)


def _items(trie: Trie, leaves_BW: Tensor, scores_BW: Tensor, k: int, seen_BS: Tensor | None) -> TopK:
    """Leaves, best first, as items.

    Items that share a semantic ID have equal scores, and the list says nothing about their order. Such a group is
    listed whole or, where it would overrun the list's end, not at all, and nothing that scores as much or less after
    it: conservatively, its last item ranks beyond k. Listing a part of it would make a hit of what may be chance.
    """
    if trie.largest == 1:
        return TopK.best_of(scores_BW, k, trie.order[leaves_BW])
    first, end = trie.first_item[-1][leaves_BW], trie.first_item[-1][leaves_BW + 1]
    places_BWG = first[..., None] + torch.arange(trie.largest, device=first.device)
    real_BWG = (places_BWG < end[..., None]) & (scores_BW > -torch.inf)[..., None]
    places_BWG = places_BWG.clamp_(max=len(trie.order) - 1)
    if seen_BS is not None:
        after = torch.searchsorted(seen_BS, places_BWG.flatten(1), right=True)
        before = torch.searchsorted(seen_BS, places_BWG.flatten(1))
        real_BWG &= (after == before).view(real_BWG.shape)
    overrun_BW = real_BWG.sum(2).cumsum(1) > k
    cut_B1 = scores_BW.masked_fill(~overrun_BW, -torch.inf).amax(1, keepdim=True)
    real_BWG &= (scores_BW > cut_B1)[..., None]
    # Stable, so that a group's items come in the order of their indices, as they do in a ranking by all scores.
    scores_BX, order_BX = (
        scores_BW[..., None].masked_fill(~real_BWG, -torch.inf).flatten(1).sort(dim=1, descending=True, stable=True)
    )
    items_BX = trie.order[places_BWG].flatten(1).gather(1, order_BX).masked_fill(scores_BX == -torch.inf, -1)
    missing = (0, k - scores_BX.shape[1])  # cut where it is negative
    return TopK(
        F.pad(items_BX, missing, value=-1).cpu().numpy(), F.pad(scores_BX, missing, value=-torch.inf).cpu().numpy()
    )


def _runs(trie: Trie, room: int) -> Iterator[tuple[int, int]]:
    """Ranges of the first level's nodes with about `room` items below them, at least one node each."""
    marks = trie.first_item[1][:-1] // room
    cuts = (marks.diff().nonzero()[:, 0] + 1).tolist()
    yield from zip([0, *cuts], [*cuts, len(marks)], strict=True)
