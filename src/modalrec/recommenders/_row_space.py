"""What a model of rows knows: items, users and their features, in the vocabulary of the train part."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.codes import CodeGroup
from modalrec.data.columns import cuts
from modalrec.data.features import Bag, Features, Field, Values
from modalrec.data.rows import Rows
from modalrec.data.splits import TRAIN
from modalrec.recommenders import ItemSpace, lists_left_out

ID = "id"
"""Field of owners that says which one it is: 0 for those that training has not seen."""


@dataclass(frozen=True)
class RowSpace(ItemSpace):
    """The catalogue, the users, and their features.

    Attributes:
        features: Of items, users, events and rows; what no train row has is 0, the unknown category.
        scales: By key of a number: mean and deviation over what training has seen; `label` and `rating` are there too,
            and `rating_range` holds the least and the greatest rating.
        user_ids: [n_users] names; a user's index is its place here.
    """

    features: Features = field(default_factory=Features)
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    user_ids: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, items: ItemSpace, user_ids: list[str], rows: Rows, groups: Mapping[str, CodeGroup] | None = None
    ) -> "RowSpace":
        """Takes from the rows what training may know.

        Args:
            items: Names, titles and vectors.
            user_ids: [n_users] names.
            rows: All rows; only those for training decide.
            groups: Codes of the items, by name.
        """
        seen = {"item": rows.trained_items(), "user": rows.trained_users()}
        features = Features()
        for owner, known in (("item", seen["item"]), ("user", seen["user"])):
            ids = np.where(known, np.cumsum(known), 0).astype(np.int32)
            features = features.with_field(Field(ID, owner, "category", int(known.sum()) + 1), ids)  # type: ignore[arg-type]
        scales = _of_targets(rows)
        for one in rows.features.fields:
            values = rows.features.values.get(one.key)
            if values is None:
                features = features.with_field(one)
                given = rows.values.get(one.key)
                if one.kind == "number" and given is not None:
                    scales[one.key] = _scale(given, rows.trained())
                continue
            known = seen[one.owner]
            if one.kind == "number":
                scales[one.key] = _scale(values, np.flatnonzero(known))  # type: ignore[arg-type]
            features = features.with_field(one, _known(one, values, known))
        for name, group in (groups or {}).items():
            codes = Field(f"codes_{name}", "item", "codes", slots=group.sizes, shared=group.shared)
            features = features.with_field(codes, group.codes_NK)
        return cls(**vars(items), features=features, scales=scales, user_ids=user_ids)

    def write(self, folder: Path) -> dict[str, Any]:
        """See `ItemSpace.write`."""
        owned: dict[str, dict[str, Any]] = {
            "item": {"item_id": self.item_ids, "title": self.titles},
            "user": {"user_id": self.user_ids},
        }
        for one in self.features.of("item", "user"):
            owned[one.owner][one.key] = _column(self.features.values[one.key])
        for owner, columns in owned.items():
            pq.write_table(pa.table(columns), folder / f"{owner}s.parquet")
        fields = [asdict(one) for one in self.features.fields]
        return {"fields": fields, "scales": dict(self.scales), "vector_lengths": self.vector_lengths()}

    @classmethod
    def read(cls, folder: Path, written: Mapping[str, Any]) -> "RowSpace":
        """See `ItemSpace.read`."""
        fields = tuple(Field(**{**entry, "slots": tuple(entry["slots"])}) for entry in written["fields"])
        tables = {owner: pq.read_table(folder / f"{owner}s.parquet") for owner in ("item", "user")}
        values = {
            one.key: _array(one, tables[one.owner][one.key].combine_chunks()) for one in fields if one.owner in tables
        }
        names = tables["item"]["item_id"].to_pylist()
        text, image = lists_left_out(len(names), written.get("vector_lengths", {}))
        return cls(
            names,
            tables["item"]["title"].to_pylist(),
            text=text,
            image=image,
            features=Features(fields, values),
            scales={key: (float(mean), float(deviation)) for key, (mean, deviation) in written["scales"].items()},
            user_ids=tables["user"]["user_id"].to_pylist(),
        )


def _known(one: Field, values: Values, seen_N: NDArray[np.bool_]) -> Values:
    """The values with every category that training has not seen replaced by 0, the unknown one."""
    known = np.zeros(one.size, bool)
    if isinstance(values, Bag):
        known[values.ids[seen_N[values.owners()]]] = True
        return Bag(np.where(known[values.ids], values.ids, 0).astype(np.int32), values.offsets)
    if one.kind == "number":
        return values
    known[values[seen_N]] = True
    return np.where(known[values], values, 0).astype(np.int32)


def _of_targets(rows: Rows) -> dict[str, tuple[float, float]]:
    """What training knows of labels and ratings as a whole."""
    found = {"label": _scale(rows.labels, rows.of(TRAIN, "click"))}
    if rows.ratings is not None:
        known, ratings = rows.of(TRAIN, "rating"), rows.ratings
        found["rating"] = _scale(ratings, known)
        ends = [end(ratings[known[cut]]) for cut in cuts(len(known)) for end in (np.min, np.max)] if len(known) else [0]
        found["rating_range"] = (float(min(ends)), float(max(ends)))
    return found


def _scale(values: NDArray[Any], places: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and deviation of what there is at some places; the deviation is 1 where all values are equal."""

    def mean(of: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        count, total = 0, 0.0
        for cut in cuts(len(places)):
            found = values[places[cut]].astype(np.float64)
            there = found[~np.isnan(found)]
            count, total = count + len(there), total + float(of(there).sum())
        return total / max(1, count)

    centre = mean(lambda there: there)
    return centre, math.sqrt(mean(lambda there: (there - centre) ** 2)) or 1.0


def _column(values: Values) -> Any:
    if isinstance(values, Bag):
        return pa.LargeListArray.from_arrays(pa.array(values.offsets), pa.array(values.ids))
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pa.array(values)


def _array(one: Field, column: Any) -> Values:
    if one.kind == "bag":
        return Bag(column.values.to_numpy(), column.offsets.to_numpy())
    if one.kind == "codes":
        return column.flatten().to_numpy().reshape(len(column), -1)
    return column.to_numpy(zero_copy_only=False)
