"""Baselines that know what items are: the items most like the last one, alone and beside item-KNN."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalrec.evaluation.item_knn import ItemKNN
from modalrec.recommenders import Scorer

CONTENT_WEIGHT = 0.5

# N items, B histories, V width of a content vector.


class ContentNN(Scorer):
    """Scores by the cosine of an item's content with that of the history's last item; it needs no events at all."""

    def __init__(self, vectors_NV: NDArray[np.float32]) -> None:
        norms_N1 = np.linalg.norm(vectors_NV, axis=1, keepdims=True)
        self.directions_NV = np.divide(vectors_NV, norms_N1, out=np.zeros_like(vectors_NV), where=norms_N1 > 0)

    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The direction of each history's last item, [B, V]; zero where it has no content."""
        return self.directions_NV[[history[-1] for history in histories]]

    def score(self, prepared: NDArray[np.float32], begin: int, end: int) -> NDArray[np.float32]:
        """[B, end - begin] cosines."""
        cosines: NDArray[np.float32] = prepared @ self.directions_NV[begin:end].T
        return cosines


class ItemKNNContent(Scorer):
    """Item-KNN's scores over the best of them, plus half of `ContentNN`'s: what followed, or what is alike."""

    def __init__(self, knn: ItemKNN, content: ContentNN) -> None:
        self.knn, self.content = knn, content

    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> Any:
        """What both need, and item-KNN's best score [B] of each history."""
        rows_BN = self.knn.prepare(histories)
        best_B = np.maximum(rows_BN.max(axis=1).toarray().ravel(), self.knn.popularity.max())
        return rows_BN, np.maximum(best_B, np.finfo(np.float32).tiny), self.content.prepare(histories)

    def score(self, prepared: Any, begin: int, end: int) -> NDArray[np.float32]:
        """[B, end - begin] scores."""
        rows_BN, best_B, directions_BV = prepared
        knn_BT = self.knn.score(rows_BN, begin, end) / best_B[:, None].astype(np.float32)
        scores: NDArray[np.float32] = knn_BT + CONTENT_WEIGHT * self.content.score(directions_BV, begin, end)
        return scores
