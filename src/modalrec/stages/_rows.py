"""What models of rows are told of items and users."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from modalrec.artifacts.codes import CodeGroup, read_code_groups
from modalrec.data.rows import Rows
from modalrec.recommenders._row_space import RowSpace
from modalrec.stages._items import item_space, refuse_other_items


def row_space(dataset: Path, rows: Rows, about: Mapping[str, Path]) -> RowSpace:
    """The catalogue and the users of a dataset in the vocabulary of its train rows, with codes and vectors as given.

    Raises:
        ArtifactError: Codes or vectors were made for other items.
    """
    items = item_space(dataset, **{edge: folder for edge, folder in about.items() if edge != "codes"})
    groups: dict[str, CodeGroup] = {}
    if "codes" in about:
        coded_ids, groups = read_code_groups(about["codes"])
        refuse_other_items(about["codes"], coded_ids, items.item_ids, "code", "embed and quantize")
    users = pq.read_table(dataset / "users.parquet", columns=["user_id"])["user_id"].to_pylist()
    return RowSpace.of(items, users, rows, groups)
