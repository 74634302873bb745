"""The ranks and lists of an evaluation on disk: one file of each a recommender, written and read back here."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modalrec.artifacts.schemas import RANKS, TOP_K, read_table
from modalrec.errors import ArtifactError
from modalrec.evaluation.ranking import Ranking
from modalrec.recommenders import TopK


def write_ranking(folder: Path, name: str, ranking: Ranking) -> None:
    """Writes `ranks/<name>.parquet` and `top_k/<name>.parquet`."""
    (folder / "ranks").mkdir(exist_ok=True)
    (folder / "top_k").mkdir(exist_ok=True)
    columns = [ranking.users, ranking.positions, ranking.targets, ranking.greater, ranking.equal]
    ranks = pa.table([pa.array(column) for column in columns], names=RANKS.names).cast(RANKS)
    pq.write_table(ranks, folder / "ranks" / f"{name}.parquet")
    filled = ranking.top.items >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(filled.sum(1))]).astype(np.int32))
    items = pa.ListArray.from_arrays(offsets, pa.array(ranking.top.items[filled].astype(np.int32)))
    scores = pa.ListArray.from_arrays(offsets, pa.array(ranking.top.scores[filled]))
    lists = pa.table([pa.array(ranking.users), pa.array(ranking.positions), items, scores], names=TOP_K.names).cast(
        TOP_K
    )
    pq.write_table(lists, folder / "top_k" / f"{name}.parquet")


def read_ranking(folder: Path, name: str, length: int, n_items: int) -> Ranking:
    """Reads what `write_ranking` wrote.

    Args:
        folder: The evaluation.
        name: The recommender's row in it.
        length: Of the lists that were kept; shorter ones are filled up.
        n_items: Size of the catalogue.

    Raises:
        ArtifactError: The evaluation has no such row, or its lists are of other targets than its ranks.
    """
    place = folder / "ranks" / f"{name}.parquet"
    if not place.is_file():
        raise ArtifactError(f"{place}: is missing; evaluate with the baseline or control that has this name")
    ranks = read_table(place, RANKS)
    lists = read_table(folder / "top_k" / place.name, TOP_K)
    users, positions, targets, greater, equal = (ranks[column].to_numpy() for column in RANKS.names)
    if not np.array_equal(users, lists["user"].to_numpy()) or not np.array_equal(
        positions, lists["position"].to_numpy()
    ):
        raise ArtifactError(f"{folder / 'top_k' / place.name}: not of the targets of {place}; run `evaluate` again")
    items, scores = (lists[column].combine_chunks() for column in ("items", "scores"))
    filled = np.arange(length) < items.value_lengths().to_numpy(zero_copy_only=False)[:, None]
    top = TopK(np.full(filled.shape, -1, np.int64), np.full(filled.shape, -np.inf, np.float32))
    top.items[filled] = items.flatten().to_numpy()
    top.scores[filled] = scores.flatten().to_numpy()
    return Ranking(users, targets, positions, greater, equal, top, n_items)
