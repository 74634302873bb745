"""How MP4SR sees a modality of an item: its vectors are pooled by attention, whitened, and adapted by experts."""

import tempfile
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.artifacts.embedding_lists import VectorLists
from modalrec.recommenders._content import whitening

# N items of the catalogue, U items asked for, E entries of their lists, L entries of the longest, W distinct vectors
# among them, V length of a vector, A width of the attention, X experts, D width of the model.

STD = 0.02
SAMPLE = 20_000
"""Items that the whitening is estimated on, at most."""
ROWS = 4096
"""Items that are pooled at a time where the whole catalogue is."""


class Gathered(NamedTuple):
    """The vectors of some items: `vectors_WV` each once, `members_E` rows of it, `counts_U` entries of each item."""

    vectors_WV: Tensor
    members_E: Tensor
    counts_U: Tensor


class AttentionPooling(nn.Module):
    """One vector an item: the mean of its vectors by weights that two linear layers give them, through a softmax.

    Nothing stands between the layers, so vectors meet their product: one number each instead of `width`.

    Args:
        length: Of the vectors, V.
        width: Between the two layers.
        padded: Published behaviour: every list is filled with zeros to this length, and the zeros take weight too. 0
            gives weight to real vectors alone.
    """

    def __init__(self, length: int, width: int, padded: int = 0) -> None:
        super().__init__()
        self.scores = nn.Sequential(nn.Linear(length, width), nn.Linear(width, 1))
        self.padded = padded

    def forward(self, found: Gathered) -> Tensor:
        """Pooled vectors [U, V]; zero where an item has none."""
        longest = max(self.padded, int(found.counts_U.max())) if len(found.counts_U) else 0
        real_UL = torch.arange(longest, device=found.counts_U.device) < found.counts_U[:, None]
        nothing = torch.finfo(found.vectors_WV.dtype).min
        first_AV, first_A, second_1A, second_1 = self.scores.parameters()
        weight_V, bias_1 = (second_1A @ first_AV)[0], second_1A @ first_A + second_1
        scores_UL = bias_1.expand(real_UL.shape) if self.padded else bias_1.new_full(real_UL.shape, nothing)
        own_E = (found.vectors_WV @ weight_V + bias_1)[found.members_E]
        weights_UL = scores_UL.masked_scatter(real_UL, own_E).softmax(1)
        starts_U = F.pad(found.counts_U.cumsum(0), (1, 0))
        # The product of weights and vectors without a vector for each entry of each list.
        return F.embedding_bag(
            found.members_E,
            found.vectors_WV,
            starts_U,
            mode="sum",
            per_sample_weights=weights_UL[real_UL],
            include_last_offset=True,
        )


class Experts(nn.Module):
    """A mixture of experts that brings pooled vectors to the model's width, all experts with a learnt share.

    Each expert is linear, dropout, normalisation; the gate starts with equal shares.
    """

    def __init__(self, length: int, width: int, experts: int, dropout: float, leading: bool) -> None:
        super().__init__()
        self.experts, self.width = experts, width
        self.linear = nn.Linear(length, experts * width)
        nn.init.normal_(self.linear.weight, std=STD)
        nn.init.zeros_(self.linear.bias)
        if leading:  # of whitened vectors the first directions tell most: items that are alike begin as neighbours
            with torch.no_grad():
                self.linear.weight += torch.eye(width, length).repeat(experts, 1)
        self.gate = nn.Parameter(torch.zeros(length, experts))
        self.dropout = nn.Dropout(dropout)
        self.scale, self.shift = nn.Parameter(torch.ones(experts, width)), nn.Parameter(torch.zeros(experts, width))

    def forward(self, pooled_UV: Tensor) -> Tensor:
        """Adapted vectors [U, D]."""
        each_UXD = self.dropout(self.linear(pooled_UV)).view(len(pooled_UV), self.experts, self.width)
        each_UXD = F.layer_norm(each_UXD, (self.width,), eps=1e-12) * self.scale + self.shift
        shares_UX = (pooled_UV @ self.gate).softmax(1)
        return torch.einsum("ux,uxd->ud", shares_UX, each_UXD)


class Modality(nn.Module):
    """The vectors of one modality, from the lists of an artifact to the model's width.

    Of the lists only what is asked for is read: memory and time follow the items of a batch, not the catalogue.

    Args:
        lists: The vectors of every item.
        width: Of the result, D.
        attention: Width of the pooling's hidden layer.
        experts: Of the adaptor; 0 has one linear map instead.
        dropout: In the adaptor.
        whiten: Give every direction of the pooled vectors the same variance.
        frozen: Pool once, by weights that are not trained; done in any case where no item has two vectors.
        padded: See `AttentionPooling`.
    """

    mean: Tensor
    directions: Tensor

    def __init__(
        self,
        lists: VectorLists,
        width: int,
        *,
        attention: int,
        experts: int,
        dropout: float,
        whiten: bool,
        frozen: bool,
        padded: bool,
    ) -> None:
        super().__init__()
        longest = int(lists.counts.max(initial=0))
        self.lists, self.frozen = lists, frozen or longest < 2
        self.pooling = AttentionPooling(lists.dimension, attention, longest if padded else 0)
        self.pooling.requires_grad_(not self.frozen)
        self.whiten = whiten
        if whiten:
            mean_V, directions_VV = _whitening_of(lists)
            self.register_buffer("mean", torch.from_numpy(mean_V))
            self.register_buffer("directions", torch.from_numpy(directions_VV))
        self.adaptor: nn.Module
        if experts:
            self.adaptor = Experts(lists.dimension, width, experts, dropout, leading=whiten)
        else:
            self.adaptor = nn.Sequential(nn.Linear(lists.dimension, width), nn.Dropout(dropout))
        self._pooled_NV: NDArray[np.float32] | None = None

    def forward(self, items_U: Tensor) -> tuple[Tensor, Tensor]:
        """Adapted vectors [U, D] of items, zero where an item has no vector, and whether it has one [U, 1].

        Only items that have one are pooled and adapted.
        """
        device, items = items_U.device, items_U.cpu().numpy()
        present = self.lists.counts_of(items) > 0
        some = items[present]
        present_U1 = torch.from_numpy(present).to(device)[:, None]
        pooled_UV = self._kept(some).to(device) if self.frozen else self._pool(some, device)
        adapted_UD: Tensor = self.adaptor(pooled_UV)
        if len(some) < len(items):
            adapted_UD = adapted_UD.new_zeros(len(items), adapted_UD.shape[1]).masked_scatter(present_U1, adapted_UD)
        return adapted_UD, present_U1

    def _pool(self, items: NDArray[np.int64], device: torch.device) -> Tensor:
        """What the adaptor takes, [U, V]: pooled vectors, whitened where they are to be."""
        pooled_UV: Tensor = self.pooling(self._gather(items, device))
        return (pooled_UV - self.mean) @ self.directions if self.whiten else pooled_UV

    def _gather(self, items: NDArray[np.int64], device: torch.device) -> Gathered:
        rows, counts = self.lists.of(items)
        distinct, members = np.unique(rows, return_inverse=True)
        vectors_WV = self.lists.vectors_VD[distinct]
        return Gathered(*(torch.from_numpy(part).to(device) for part in (vectors_WV, members, counts)))

    def _kept(self, items: NDArray[np.int64]) -> Tensor:
        """The same, made once for the catalogue and kept in a file without a name."""
        if self._pooled_NV is None:
            n_items, device = len(self.lists), next(self.pooling.parameters()).device
            with tempfile.TemporaryFile() as store, torch.inference_mode():
                for begin in range(0, n_items, ROWS):
                    some = np.arange(begin, min(begin + ROWS, n_items))
                    store.write(self._pool(some, device).cpu().numpy().tobytes())
                store.flush()
                self._pooled_NV = np.memmap(store, np.float32, "c", shape=(n_items, self.lists.dimension))
        return torch.from_numpy(self._pooled_NV[items])


def _whitening_of(lists: VectorLists) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean [V] and scaled directions [V, V] of the items' mean vectors, on as many of them as suffice."""
    items = np.flatnonzero(lists.counts)
    if len(items) > SAMPLE:
        items = np.sort(np.random.default_rng(0).choice(items, SAMPLE, replace=False))
    means_NV = lists.sums_of(items)
    means_NV /= np.maximum(lists.counts_of(items), 1)[:, None]
    found = whitening(means_NV)
    directions_VV = np.zeros((lists.dimension, lists.dimension), np.float32)
    directions_VV[:, : found.directions_VR.shape[1]] = found.directions_VR
    return found.mean_V, directions_VV
