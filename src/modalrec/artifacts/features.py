"""Features of a dataset's items and users: `features.json` says what the columns of the two tables are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from modalrec.artifacts.files import write_json
from modalrec.artifacts.schemas import read_table
from modalrec.config import Config
from modalrec.errors import ArtifactError

Part = Literal["item", "user"]
PARTS: tuple[Part, ...] = ("item", "user")
NAME = "features.json"
TYPES: dict[str, pa.DataType] = {"category": pa.int32(), "bag": pa.list_(pa.int32()), "number": pa.float32()}
"""The column of each kind: a category, 0 where it is missing; categories without 0; a number, NaN where missing."""
MAX_VALUES = 100_000
"""Names of categories that are kept."""


class Feature(Config):
    """One column of `item_features.parquet` or `user_features.parquet`.

    Attributes:
        kind: A category, a bag of categories or a number.
        size: Categories, the missing one (0) among them; of a number none.
        popularity: It tells how popular an item is; results without it show what content alone is worth.
        values: The names of the categories from 1 on, where they are not too many.
    """

    kind: Literal["category", "bag", "number"]
    size: int = Field(default=0, ge=0)
    popularity: bool = False
    values: tuple[str, ...] | None = None


def write_features(folder: Path, tables: Mapping[Part, tuple[pa.Table, Mapping[str, Feature]]]) -> None:
    """Writes the tables of coded columns that there are, and `features.json`, with a part for both."""
    for part, (table, _) in tables.items():
        pq.write_table(table, folder / f"{part}_features.parquet")
    said = {
        part: {name: feature.model_dump(mode="json", exclude_none=True) for name, feature in tables[part][1].items()}
        if part in tables
        else {}
        for part in PARTS
    }
    write_json(folder / NAME, said)


def read_features(dataset: Path, part: Part) -> tuple[pa.Table, dict[str, Feature]]:
    """The features of items or users, row by row as in `items.parquet` or `users.parquet`.

    Returns:
        The columns by name, of the types of `TYPES`, and what they are; a table without columns where there are none.

    Raises:
        ArtifactError: A file is missing, damaged, or says another thing than the other.
    """
    path = dataset / NAME
    if not path.is_file():
        return pa.table({}), {}
    try:
        said = json.loads(path.read_bytes())[part]
        features = {name: Feature.model_validate(feature) for name, feature in said.items()}
    except (ValueError, KeyError, AttributeError, TypeError, ValidationError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run ingest again") from None
    if not features:
        return pa.table({}), {}
    schema = pa.schema([(name, TYPES[feature.kind]) for name, feature in features.items()])
    return read_table(dataset / f"{part}_features.parquet", schema, columns=schema.names), features
