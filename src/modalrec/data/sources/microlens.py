"""MicroLens_1M_MMCTR: the rows, items and given vectors of a challenge in click prediction (WWW 2025)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modalrec import config
from modalrec.data.archives import Archive, open_archive
from modalrec.data.names import as_lists_of_names, as_names
from modalrec.data.sources import Source, event_batch, item_batch
from modalrec.data.sources._features import BAG, CATEGORY, feature_table
from modalrec.data.sources._strict_parquet import Kind, check_columns, read_strictly
from modalrec.data.synthetic import MARK
from modalrec.data.titles import has_letters
from modalrec.errors import DataError, Problems

PARTS = ("train", "valid", "test")
LEVELS = ("likes_level", "views_level")
PICTURES = ("item_images", "item_images.zip", "item_images.rar")
PADDING = 0
"""The number of no item and of no tag: lists are filled up with it, and tables may have a row of it."""


class Form(NamedTuple):
    """The columns of a file, those that may be missing, and whether the file itself may."""

    columns: Mapping[str, Kind]
    optional: Mapping[str, Kind]
    needed: bool


ROW: dict[str, Kind] = {"user_id": "id", "item_seq": "ids", "item_id": "id", **dict.fromkeys(LEVELS, "level")}
FEATURE: dict[str, Kind] = {"item_id": "id", "item_title": "text", "item_tags": "ids", **dict.fromkeys(LEVELS, "level")}
FORMS = {
    "item_feature": Form(FEATURE, {"txt_emb_BERT": "vector", "img_emb_CLIPRN50": "vector"}, True),
    "train": Form({**ROW, "label": "flag"}, {}, True),
    "valid": Form({**ROW, "label": "flag"}, {}, True),
    "test": Form(ROW, {"ID": "id"}, False),
    "item_info": Form({"item_id": "id", "item_tags": "ids", "item_emb_d128": "vector"}, {}, False),
    "item_emb": Form({"item_id": "id"}, {}, False),
    "item_seq": Form({"user_id": "id", "item_seq": "ids"}, {}, False),
}
"""The files by name, each `NAME.parquet`."""


class MicroLens(Source):
    """Rows of a user, the videos watched before, one video, and whether it was watched.

    The files may lie in the folder or in folders below, as they are distributed: the rows in `MicroLens_1M_x1/`,
    pictures named by item in `item_images.rar`, a zip or a folder. Likes and views of a video are told in ten levels
    that are those of the whole data, test rows included: features marked as popularity. The vectors that come along are
    taken over with `modalrec import embeddings`.
    """

    class Config(config.Config):
        """Settings.

        Attributes:
            test_labels: The labels of the test rows are real; by default they are hidden, whatever the file holds.
        """

        name: Literal["microlens"] = "microlens"
        test_labels: bool = False

    expects = "item_feature.parquet and, perhaps in MicroLens_1M_x1/, train.parquet, valid.parquet and test.parquet"
    has_timestamps = False
    has_ratings = False
    has_roles = True
    has_labels = True
    has_histories = True
    popularity = frozenset(LEVELS)
    suggested = {
        "splits": ("given",),
        "min_user_events": 1,
        "min_item_events": 1,
        "exact_repeats": "keep",
        "keep_cold_items": True,
    }

    def __init__(self, config: Config, folder: Path) -> None:
        self._config = config
        self.counts: dict[str, int] = {}
        self._files = _find(folder)
        self.items_file, self.events_file = self._files["item_feature"], self._files["train"]
        self.parts = tuple(part for part in PARTS if part in self._files)
        self.has_row_ids = "test" in self._files
        self._archive = _pictures(folder)
        pictures = [self._archive.path] if self._archive and self._archive.path.is_file() else []
        self.other_files = (*self._files.values(), *pictures)
        self._check()

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder looks like MicroLens."""
        return all(_places(folder, f"{name}.parquet") for name in ("item_feature", "train", "valid"))

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the videos, see `Source.items`."""
        made_up = MARK in (pq.read_schema(self.items_file).metadata or {})
        self.counts = {"items_with_picture": 0, "items_without_title": 0} | ({"synthetic": 1} if made_up else {})
        for batch in read_strictly(self.items_file, {"item_id": "id", "item_title": "text"}):
            rows = []
            for item, title in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if item == PADDING:
                    continue
                title = title if title and has_letters(title) else None
                picture = self._archive.find(str(item)) if self._archive else None
                rows.append({"item_id": str(item), "title": title, "text": title, "picture": picture})
                self.counts["items_with_picture"] += picture is not None
                self.counts["items_without_title"] += title is None
            yield item_batch(rows)

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the rows part by part, see `Source.interactions`."""
        levels = self._levels()
        self.counts |= {"rows_with_other_levels": 0, "longest_history": 0}
        for role, part in enumerate(self.parts):
            self.counts[f"{part}_rows"] = 0
            for batch in read_strictly(self._files[part], self._columns(part)):
                n, first = batch.num_rows, self.counts[f"{part}_rows"]
                self.counts[f"{part}_rows"] += n
                self._compare(batch, levels)
                histories = as_lists_of_names(batch.column("item_seq"), padding=PADDING)
                longest = pc.max(pc.list_value_length(histories)).as_py()
                self.counts["longest_history"] = max(longest, self.counts["longest_history"])
                labels = batch.column("label").cast(pa.int8()) if "label" in batch.schema.names else None
                numbers = None
                if part == "test":
                    given = batch.column("ID").cast(pa.int64()) if "ID" in batch.schema.names else None
                    numbers = pa.array(np.arange(first, first + n)) if given is None else given
                users, items = (as_names(batch.column(name)) for name in ("user_id", "item_id"))
                roles = pa.array(np.full(n, role, np.int8))
                yield event_batch(users, items, None, None, roles, labels, histories, numbers)

    def item_features(self) -> pa.Table:
        """Tags and levels, see `Source.item_features`."""
        table = pa.Table.from_batches(
            read_strictly(self.items_file, {"item_id": "id", "item_tags": "ids", **dict.fromkeys(LEVELS, "level")})
        )
        table = table.filter(pc.not_equal(table["item_id"], PADDING))
        tags = as_lists_of_names(table["item_tags"].combine_chunks(), padding=PADDING).cast(BAG)
        columns: dict[str, tuple[pa.DataType, Any]] = {"tags": (BAG, tags)}
        columns |= {name: (CATEGORY, table[name].cast(CATEGORY)) for name in LEVELS}
        return feature_table(table["item_id"].cast(pa.string()), columns)

    def pictures(self) -> Archive | None:
        """The pictures, where there are any."""
        return self._archive

    def _columns(self, part: str) -> dict[str, Kind]:
        """The columns that are read of a part's file."""
        columns = dict(FORMS[part].columns)
        with_ids: dict[str, Kind] = {"ID": "id"} if part == "test" and self._has("test", "ID") else {}
        with_labels: dict[str, Kind] = {"label": "flag"} if part == "test" and self._config.test_labels else {}
        return {**columns, **with_ids, **with_labels}

    def _check(self) -> None:
        """Raises one error with what is wrong with the columns of all files."""
        faults = []
        for name, path in self._files.items():
            form, problems = FORMS[name], Problems(path)
            labels: dict[str, Kind] = {"label": "flag"} if name == "test" and self._config.test_labels else {}
            check_columns(path, {**form.columns, **labels}, form.optional, problems)
            try:
                problems.raise_if_any("")
            except DataError as error:
                faults.append(str(error).strip())
        if faults:
            raise DataError("\n".join(faults) + "\nFetch these files again, or take another folder")

    def _has(self, part: str, column: str) -> bool:
        return column in pq.read_schema(self._files[part]).names

    def _levels(self) -> pa.Table:
        return pa.Table.from_batches(
            read_strictly(self.items_file, {"item_id": "id", **dict.fromkeys(LEVELS, "level")})
        ).combine_chunks()

    def _compare(self, batch: pa.RecordBatch, levels: pa.Table) -> None:
        """Counts rows whose levels are not those of their item: features are the items'."""
        found = pc.index_in(batch.column("item_id"), levels["item_id"].combine_chunks())
        other = pa.scalar(False)
        for name in LEVELS:
            item_level = levels[name].combine_chunks().take(found).cast(pa.int64())
            other = pc.or_(other, pc.fill_null(pc.not_equal(item_level, batch.column(name).cast(pa.int64())), False))
        self.counts["rows_with_other_levels"] += pc.sum(other).as_py()


def _find(folder: Path) -> dict[str, Path]:
    """The files that are there, by name.

    Raises:
        DataError: One is missing or lies in two folders; all of them in one error.
    """
    problems = Problems(folder)
    found = {}
    for name, form in FORMS.items():
        places = _places(folder, f"{name}.parquet")
        if len(places) == 1:
            found[name] = places[0]
        elif places:
            problems.add(f"{name}.parquet", f"is in {' and in '.join(str(place.parent) for place in places)}")
        elif form.needed:
            problems.add("", f"no {name}.parquet")
    problems.raise_if_any("Give the folder of one MicroLens_1M_MMCTR as it is distributed")
    return found


def _pictures(folder: Path) -> Archive | None:
    places = [place for name in PICTURES for place in _places(folder, name)]
    return open_archive(places[0]) if places else None


def _places(folder: Path, name: str) -> list[Path]:
    """Where a file lies: in the folder, or one or two folders below."""
    return [path for level in ("", "*/", "*/*/") for path in sorted(folder.glob(level + name))]
