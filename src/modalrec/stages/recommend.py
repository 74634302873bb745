"""Recommendations from a model's folder alone: after one history, or for a table of users."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.files import file_in_place
from modalrec.artifacts.manifest import read_manifest
from modalrec.artifacts.schemas import UNREADABLE, stream
from modalrec.errors import ConfigError, DataError, Problems
from modalrec.recommenders import Recommender, load_recommender
from modalrec.run import Run

BATCH = 256
"""Histories at a time."""
USERS = {"user", "history"}
LISTS = pa.schema(
    [
        pa.field("user", pa.string(), nullable=False),
        pa.field("items", pa.list_(pa.string()), nullable=False),
        pa.field("titles", pa.list_(pa.string()), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
    ]
)
"""The table of lists: one row a user, in the order of the users, the best item first."""


FIELDS = ("item_id", "title", "score")
"""What of `Recommended` makes the columns of lists."""


@dataclass(frozen=True)
class Recommended:
    """One item of a list."""

    item_id: str
    title: str
    score: float


class Server:
    """A model that is kept in memory and asked by item ids.

    Args:
        folder: The model.
        device: A torch device name.

    Raises:
        ArtifactError: The folder is no model, or is damaged.
        ConfigError: It is a model of rows, which ranks no catalogue.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.manifest = read_manifest(folder, "model")
        self.model: Recommender = load_recommender(folder, device)
        if not isinstance(self.model, Recommender):
            raise ConfigError(f"{folder}: a model of rows ranks no catalogue; give a recommender")
        self._rows = {item: row for row, item in enumerate(self.model.items.item_ids)}

    def unknown(self, history: Sequence[str]) -> list[str]:
        """The items of a history that the model does not have."""
        return [item for item in history if item not in self._rows]

    def recommend(self, histories: Sequence[Sequence[str]], k: int, mask_seen: bool = True) -> list[list[Recommended]]:
        """The k best items after each history, oldest item first; unknown items in it are passed over.

        Raises:
            DataError: Nothing is left of a history.
            ConfigError: The model cannot give lists of that length.
        """
        known = [[self._rows[item] for item in history if item in self._rows] for history in histories]
        for row, items in enumerate(known):
            if not items:
                what = ", ".join(map(repr, histories[row][:5])) or "nothing"
                raise DataError(f"history {row + 1} ({what}): the model has none of its items; give one that it has")
        top = self.model.recommend([np.array(items, np.int32) for items in known], k, mask_seen=mask_seen)
        return [self._named(items, scores) for items, scores in zip(top.items, top.scores, strict=True)]

    def _named(self, items: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Recommended]:
        ids, titles = self.model.items.item_ids, self.model.items.titles
        pairs = zip(items.tolist(), scores.tolist(), strict=True)
        return [Recommended(ids[item], titles[item] or "", score) for item, score in pairs if item >= 0]


def recommend_users(server: Server, users: Path, out: Path, k: int, mask_seen: bool, run: Run) -> dict[str, float]:
    """Writes the lists of a table of users, batch by batch.

    Args:
        server: The model.
        users: Parquet with `user` and `history`, a list of item ids, oldest first.
        out: The parquet file to write, see `LISTS`; it must not exist.
        k: Length of the lists.
        mask_seen: Leave out the items of the history.
        run: Progress.

    Returns:
        `users`, those `without_history` that the model knows, who get empty lists, and `unknown_items` passed over.

    Raises:
        DataError: The table is not as expected.
        ConfigError: The file exists, or the model cannot give lists of that length.
    """
    if out.exists():
        raise ConfigError(f"{out}: exists; remove it or name another file")
    counts = {"users": 0, "without_history": 0, "unknown_items": 0}
    with file_in_place(out) as building, pq.ParquetWriter(building, LISTS) as writer:
        for names, histories in _batches(users, run):
            unknown = [len(server.unknown(history)) for history in histories]
            known = [history for history, n in zip(histories, unknown, strict=True) if n < len(history)]
            found = iter(server.recommend(known, k, mask_seen) if known else [])
            lists = [next(found) if n < len(history) else [] for history, n in zip(histories, unknown, strict=True)]
            columns = [[[getattr(one, name) for one in items] for items in lists] for name in FIELDS]
            arrays = [pa.array(column, field.type) for column, field in zip([names, *columns], LISTS, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=LISTS))
            counts["users"] += len(names)
            counts["without_history"] += len(histories) - len(known)
            counts["unknown_items"] += sum(unknown)
    return {name: float(count) for name, count in counts.items()}


def _batches(path: Path, run: Run) -> Iterator[tuple[list[str], list[list[str]]]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a parquet file with the columns user and history")
    try:
        file = pq.ParquetFile(path)
    except UNREADABLE as error:
        raise DataError(f"{path}: is no parquet file ({error}); give one with the columns user and history") from None
    with file, run.progress("users", file.metadata.num_rows) as progress:
        schema = file.schema_arrow
        problems = Problems(path)
        for name in sorted(USERS - {*schema.names}):
            problems.add(name, "the column is missing")
        if "history" in schema.names and not pa.types.is_nested(schema.field("history").type):
            problems.add("history", f"is {schema.field('history').type}, not a list of item ids")
        problems.raise_if_any("Give one row a user: user, and history as a list of item ids, oldest first")
        try:
            for batch in stream(file, BATCH, sorted(USERS)):
                histories = batch.column("history").cast(pa.list_(pa.string())).to_pylist()
                names = batch.column("user").cast(pa.string()).to_pylist()
                yield names, [[item for item in history or [] if item is not None] for history in histories]
                progress.advance(batch.num_rows)
        except UNREADABLE as error:
            raise DataError(
                f"{path}: after row {progress.done}: {error}; write it again, with user as text and history as a list "
                "of item ids"
            ) from None
