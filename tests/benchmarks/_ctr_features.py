"""What models of clicks see of a row, as a matrix for scikit-learn: the same fields, and crosses that it cannot make.

A row's item, user, features, levels of popularity and codes as they are; the history as a sum of its items and as
genres, and how much of it was liked, in all and of films that share a genre with the row's.
"""

from itertools import islice
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import TargetEncoder

from modalrec.artifacts.codes import CodeGroup
from modalrec.data.features import Bag
from modalrec.data.rows import Rows, pieces
from modalrec.data.splits import TRAIN, VALID
from modalrec.evaluation.ctr import auc

# E rows, P places of their histories, N items, G genres.

PENALTIES = (0.1, 0.3, 1.0)
LEAVES = (8, 31)
MOST_TREES, PRIOR = 300, 5.0
Said = NDArray[np.float32]


class Table:
    """Columns of some rows.

    Args:
        rows: All rows; histories come with their labels.
        places: [E] which.
        history: Entries of a history, the latest ones.
        groups: Codes by name.
    """

    def __init__(self, rows: Rows, places: NDArray[np.int64], history: int, groups: dict[str, CodeGroup]) -> None:
        self.users, self.items = np.asarray(rows.users[places]), np.asarray(rows.items[places])
        self.categories = [(self.items, rows.n_items), (self.users, rows.n_users)]
        for one in rows.features.fields:
            owner = {"item": self.items, "user": self.users}.get(one.owner)
            if one.kind == "category":
                values = rows.values[one.key][places] if owner is None else rows.features.values[one.key][owner]  # type: ignore[index]
                self.categories.append((np.asarray(values), one.size))
        for group in groups.values():
            self.categories += zip(group.codes_NK[self.items].T, group.sizes, strict=True)
        ends = rows.ends[places]
        begins = np.maximum(rows.begins[places], ends - history)
        past, row = pieces(begins, ends), np.repeat(np.arange(len(places)), ends - begins)
        sign = rows.past_values["event_label"][past].astype(np.float64) * 2 - 3
        shape = (len(places), rows.n_items)
        self.liked_EN = sp.csr_matrix((sign, (row, rows.past[past])), shape)
        self.seen_EN = sp.csr_matrix((np.ones(len(row)), (row, rows.past[past])), shape)
        self.lengths_E = (ends - begins).astype(np.float64)
        self.genres_NG = _multi_hot(rows.features.values["item_genres"])  # type: ignore[arg-type]

    def numbers(self) -> NDArray[np.float64]:
        """[E, 4] how long the history is and how much of it was liked, in all and of films of the item's genres."""
        own_EG = self.genres_NG[self.items]
        liked, seen = (np.asarray((past @ self.genres_NG).multiply(own_EG).sum(1))[:, 0] for past in self._past())
        whole = np.asarray(self.liked_EN.sum(1))[:, 0] / (self.lengths_E + PRIOR)
        return np.stack([np.log1p(self.lengths_E), whole, np.log1p(seen), liked / (seen + PRIOR)], 1)

    def sparse(self) -> sp.csr_matrix:
        """Every category as a column of its own; the history as items and as genres, and these times the item's own."""
        liked_EG, seen_EG = (past @ self.genres_NG for past in self._past())
        tastes_EG = liked_EG.multiply(1 / (np.asarray(seen_EG.sum(1)) + PRIOR)).tocsr()
        own_EG = self.genres_NG[self.items]
        columns = [_one_hot(values, size) for values, size in self.categories]
        history_EN = self.liked_EN.multiply(1 / np.sqrt(1 + self.lengths_E)[:, None])
        crosses = [own_EG, own_EG.multiply(tastes_EG), tastes_EG]
        return sp.hstack([*columns, *crosses, history_EN, self.numbers()]).tocsr()

    def dense(self) -> NDArray[np.float64]:
        """Categories as they are, item and user in front, then genres and `numbers`."""
        fields_EF = np.stack([values for values, _ in self.categories], 1)
        return np.hstack([fields_EF, self.genres_NG[self.items].toarray(), self.numbers()])

    def _past(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        return self.liked_EN, self.seen_EN


def logistic_regression(rows: Rows, asked: NDArray[np.int64], history: int, groups: dict[str, CodeGroup]) -> Said:
    """Probabilities [E] of the rows asked; the penalty is the best of PENALTIES on the validation part."""
    learnt, labels, checked, truth = _parts(rows)
    known, valid, wanted = (Table(rows, places, history, groups).sparse() for places in (learnt, checked, asked))
    best: tuple[float, Any] = (0.0, None)
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=200).fit(known, labels)
        best = max(best, (auc(truth, _said(model, valid)), model), key=lambda found: found[0])
    return _said(best[1], wanted)


def gradient_boosting(rows: Rows, asked: NDArray[np.int64], history: int, groups: dict[str, CodeGroup]) -> Said:
    """Probabilities [E] of the rows asked; leaves and trees are the best on the validation part.

    Item and user are encoded by their labels of other folds, smoothed.
    """
    learnt, labels, checked, truth = _parts(rows)
    known, valid, wanted = (Table(rows, places, history, groups).dense() for places in (learnt, checked, asked))
    encoder = TargetEncoder(target_type="binary", random_state=0)
    known[:, :2] = encoder.fit_transform(known[:, :2].astype(int), labels)
    for table in (valid, wanted):
        table[:, :2] = encoder.transform(table[:, :2].astype(int))
    best, said = 0.0, np.zeros(len(asked), np.float32)
    for leaves in LEAVES:
        model = HistGradientBoostingClassifier(max_iter=MOST_TREES, max_leaf_nodes=leaves, early_stopping=False)
        model.fit(known, labels)
        after = [auc(truth, found[:, 1].astype(np.float32)) for found in model.staged_predict_proba(valid)]
        if max(after) > best:
            best, trees = max(after), int(np.argmax(after))
            said = next(islice(model.staged_predict_proba(wanted), trees, None))[:, 1].astype(np.float32)
    return said


def _parts(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int64], NDArray[np.int8]]:
    """The train rows and their labels, the validation rows and theirs."""
    learnt, checked = rows.of(TRAIN, "click"), rows.of(VALID, "click")
    return learnt, np.asarray(rows.labels[learnt]), checked, np.asarray(rows.labels[checked])


def _said(model: Any, table: Any) -> Said:
    said: Said = model.predict_proba(table)[:, 1].astype(np.float32)
    return said


def _one_hot(values_E: NDArray[np.integer[Any]], size: int) -> sp.csr_matrix:
    rows = np.arange(len(values_E))
    return sp.csr_matrix((np.ones(len(rows)), (rows, values_E)), (len(rows), size))


def _multi_hot(bag: Bag) -> sp.csr_matrix:
    return sp.csr_matrix((np.ones(len(bag.ids)), (bag.owners(), bag.ids)))
