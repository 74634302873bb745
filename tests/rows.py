"""Datasets of labelled rows, as `ingest` would write them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modalrec.artifacts import write_artifact
from modalrec.artifacts.schemas import INTERACTIONS, ITEMS, USERS
from modalrec.config import Config
from modalrec.testing.rows import GENRES, tastes

Columns = Mapping[str, Sequence[Any] | np.ndarray]
TYPES = {"category": pa.int32(), "bag": pa.list_(pa.int32()), "number": pa.float32()}


def write_rows(
    folder: Path,
    rows: Columns,
    splits: Mapping[str, Sequence[int] | np.ndarray],
    features: Mapping[str, Mapping[str, tuple[Mapping[str, Any], Sequence[Any]]]] | None = None,
    n_items: int | None = None,
    n_users: int | None = None,
) -> Path:
    """A dataset artifact.

    Args:
        folder: Where.
        rows: By column: user and item (indices), and any of timestamp, rating, label, history, row_id; sorted by user
            and time.
        splits: From name to the part of every row.
        features: From owner to name to what `features.json` says and the values.
        n_items: Items of the catalogue, by default as many as there are rows of.
        n_users: Users.
    """
    users, items = np.asarray(rows["user"], np.int32), np.asarray(rows["item"], np.int32)
    n_items = n_items or int(items.max()) + 1
    n_users = n_users or int(users.max()) + 1
    starts = np.searchsorted(users, users)
    columns: dict[str, Any] = {"user": users, "item": items, "position": (np.arange(len(users)) - starts).astype("i4")}
    extra = {"label": pa.int8(), "history": pa.list_(pa.int32()), "row_id": pa.int64()}
    table = {
        field.name: pa.array(columns.get(field.name, rows.get(field.name, [None] * len(users))), field.type)
        for field in INTERACTIONS
    }
    table |= {name: pa.array(rows[name], kind) for name, kind in extra.items() if name in rows}
    table |= {f"split_{name}": pa.array(np.asarray(part, np.int8)) for name, part in splits.items()}
    with write_artifact(folder, "dataset", stage="ingest", config=Config(), seed=0, inputs={}) as work:
        named = [{"item_id": f"i{row}", "title": f"Title {row}", "image": "none"} for row in range(n_items)]
        pq.write_table(pa.Table.from_pylist(named, schema=ITEMS), work.folder / "items.parquet")
        known = pa.table({"user_id": [f"u{row}" for row in range(n_users)]}, schema=USERS)
        pq.write_table(known, work.folder / "users.parquet")
        pq.write_table(pa.table(table), work.folder / "interactions.parquet")
        for owner, given in (features or {}).items():
            values = {name: pa.array(column, TYPES[said["kind"]]) for name, (said, column) in given.items()}
            pq.write_table(pa.table(values), work.folder / f"{owner}_features.parquet")
        if features:
            described = {owner: {name: said for name, (said, _) in given.items()} for owner, given in features.items()}
            (work.folder / "features.json").write_text(json.dumps(described))
        work.statistics |= {"splits": list(splits)}
    return folder


def clicks(folder: Path) -> Path:
    """Users who like one genre, with features of items and users; see `tastes`."""
    given = tastes()
    n_items, n_users = len(given.genres), int(given.users[-1]) + 1
    genres = given.genres.tolist()
    features = {
        "item": {
            "genre": ({"kind": "category", "size": GENRES + 1}, genres),
            "tags": ({"kind": "bag", "size": 2 * GENRES + 1}, [[genre, genre + GENRES] for genre in genres]),
            "age": ({"kind": "number"}, [float(item) if item % 7 else None for item in range(n_items)]),
        },
        "user": {"country": ({"kind": "category", "size": 3}, [user % 3 for user in range(n_users)])},
    }
    columns = {"user": given.users, "item": given.items, "timestamp": given.times, "label": given.labels}
    columns["rating"] = 1.0 + 4.0 * given.labels
    return write_rows(folder, columns, {"random": given.split}, features)
