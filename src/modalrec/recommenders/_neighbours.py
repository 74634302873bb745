"""Item-KNN's knowledge as a part of a model: it remembers single pairs, which a small network cannot."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from modalrec.data.sequences import Sequences
from modalrec.training.neighbours import following, neighbours

# N items, M pairs, B histories.


class Neighbours(nn.Module):
    """Which items stood near which in the train events, how often; the counts are saved with the weights."""

    starts: Tensor
    items: Tensor
    counts: Tensor

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.register_buffer("starts", torch.zeros(n_items + 1, dtype=torch.int64))
        self.register_buffer("items", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(0))
        self._counts_NN: sparse.csr_array | None = None

    def learn(self, train: Sequences) -> None:
        """Counts pairs of train events."""
        found_NN = neighbours(train)
        found_NN.sort_indices()
        device = self.starts.device
        self.starts = torch.from_numpy(found_NN.indptr.astype(np.int64)).to(device)
        self.items = torch.from_numpy(found_NN.indices.astype(np.int32)).to(device)
        self.counts = torch.from_numpy(found_NN.data.astype(np.float32)).to(device)
        self._counts_NN = None

    def shares(self, histories: Sequence[NDArray[np.int32]]) -> sparse.csc_array:
        """Item-KNN's scores after each history over the best of them, from 0 to 1, [B, N]."""
        if self._counts_NN is None:
            parts = [part.cpu().numpy() for part in (self.counts, self.items, self.starts)]
            n_items = len(self.starts) - 1
            self._counts_NN = sparse.csr_array(tuple(parts), shape=(n_items, n_items))
        scores_BN = following(self._counts_NN, histories)
        best_B = scores_BN.max(axis=1).toarray().ravel()
        over_best_BB = sparse.diags_array(1 / np.where(best_B > 0, best_B, 1))
        return (over_best_BB @ scores_BN).astype(np.float32).tocsc()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Makes room for as many pairs as there are among the weights."""
        for name in ("items", "counts"):
            if f"{prefix}{name}" in state:
                setattr(self, name, torch.empty_like(state[f"{prefix}{name}"], device=self.starts.device))
        self._counts_NN = None
        super()._load_from_state_dict(state, prefix, *rest)
