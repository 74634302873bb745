"""Features of items and users as models of rows take them in."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modalrec.artifacts.features import read_features
from modalrec.errors import ArtifactError

# N items or users, T categories of all bags.

Owner = Literal["item", "user", "event", "row"]
Kind = Literal["category", "bag", "number", "codes"]


@dataclass(frozen=True)
class Field:
    """One feature.

    Attributes:
        name: Its name; with its owner, as in `item_tags`, it names a table of embeddings.
        owner: item; user; event, what an item has at the time of an event, such as its popularity then, also in
            histories; or row, what belongs to a row alone.
        kind: category, bag (a set of categories), number, or codes (a code at each of K slots).
        size: Categories, 0 included, which is unknown or missing; 0 for numbers and codes.
        popularity: It tells how popular an item is.
        slots: [K] codes to choose from at each slot.
        shared: A code means the same at every slot.
    """

    name: str
    owner: Owner
    kind: Kind
    size: int = 0
    popularity: bool = False
    slots: tuple[int, ...] = ()
    shared: bool = False

    @property
    def key(self) -> str:
        """The name with the owner in front."""
        return f"{self.owner}_{self.name}"


@dataclass(frozen=True)
class Bag:
    """A set of categories for each of N things, one after the other.

    Attributes:
        ids: [T] categories.
        offsets: [N + 1]; thing n owns `ids[offsets[n]:offsets[n + 1]]`.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: NDArray[np.int64]) -> "Bag":
        """The bags of some things, in their order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Bag(self.ids[places], offsets)

    def owners(self) -> NDArray[np.int64]:
        """[T] whose each category is."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


Values = NDArray[np.int32] | NDArray[np.float32] | Bag
"""Of one field: categories [N], numbers [N] with NaN where missing, codes [N, K], or bags."""


@dataclass(frozen=True)
class Features:
    """Fields and their values.

    Attributes:
        fields: In the order of the files.
        values: By `Field.key`, of items and users; those of events and rows are in `modalrec.data.rows`.
    """

    fields: tuple[Field, ...] = ()
    values: Mapping[str, Values] = field(default_factory=dict)

    def of(self, *owners: Owner) -> tuple[Field, ...]:
        """The fields of some owners."""
        return tuple(one for one in self.fields if one.owner in owners)

    def with_field(self, added: Field, values: Values | None = None) -> "Features":
        """One more field."""
        more = {} if values is None else {added.key: values}
        return replace(self, fields=(*self.fields, added), values={**self.values, **more})


def load_features(dataset: Path, n_items: int, n_users: int) -> Features:
    """Reads the features of a dataset; none where it has none.

    Raises:
        ArtifactError: A file is damaged, or a value lies outside what `features.json` says; all problems at once.
    """
    fields: list[Field] = []
    values: dict[str, Values] = {}
    problems: list[str] = []
    for owner, length in (("item", n_items), ("user", n_users)):
        table, described = read_features(dataset, owner)  # type: ignore[arg-type]
        path = dataset / f"{owner}_features.parquet"
        if described and table.num_rows != length:
            problems.append(f"{path}: has {table.num_rows:,} rows instead of {length:,}")
            continue
        for name, said in described.items():
            one = Field(name, owner, said.kind, said.size, said.popularity)  # type: ignore[arg-type]
            found = _values(one, table[name].combine_chunks())
            ids = found.ids if isinstance(found, Bag) else found
            if one.kind != "number" and len(ids) and (ids.min() < 0 or ids.max() >= one.size):
                problems.append(f"{path}: {name}: {ids.min()} to {ids.max()}, but its size is {one.size}")
            fields.append(one)
            values[one.key] = found
    if problems:
        raise ArtifactError("\n".join([*problems, "run `ingest` again"]))
    return Features(tuple(fields), values)


def _values(one: Field, column: Any) -> Values:
    if one.kind == "bag":
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Bag(column.flatten().to_numpy(zero_copy_only=False).astype(np.int32), offsets)
    if one.kind == "number":
        return column.fill_null(np.nan).to_numpy(zero_copy_only=False).astype(np.float32)
    return column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
