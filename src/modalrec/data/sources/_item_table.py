"""A table of items with pictures beside it, as `tables` and `sessions` take it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from modalrec import config
from modalrec.data.archives import Archive, is_inside
from modalrec.data.sources import find_pictures, item_batch
from modalrec.data.sources._columns import column_kind, find_columns, read_columns
from modalrec.data.titles import compose_text
from modalrec.errors import Problems


class ItemColumns(config.Config):
    """The columns of the items table by meaning; all but `item_id` may be missing under their default names."""

    item_id: str = "item_id"
    title: str = "title"
    text: str = "text"
    categories: str = "categories"
    year: str = "year"
    image: str = "image"


class ItemTable:
    """Items from a table of the user's own.

    Attributes:
        path: The table.
        pictures: The folder or zip of pictures, where there is one.
    """

    def __init__(self, path: Path, columns: ItemColumns, category_separator: str, images: str | None) -> None:
        self.path = path
        self._columns = find_columns(path, columns, ["item_id"], "item_columns")
        self._separator = category_separator
        self.pictures: Archive | None = find_pictures(path.parent, images)

    @property
    def other_files(self) -> tuple[Path, ...]:
        """The zip of pictures, where there is one."""
        return (self.pictures.path,) if self.pictures and self.pictures.path.is_file() else ()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the items, see `Source.items`."""
        types = {name: pa.string() for name in self._columns} | {"year": pa.int32()}
        kind = column_kind(self.path, self._columns.get("categories"))
        if kind and pa.types.is_nested(kind):
            types["categories"] = pa.list_(pa.string())
        problems = Problems(self.path)
        row = 0
        for batch in read_columns(self.path, self._columns, types, ["item_id"]):
            rows = []
            for values in batch.to_pylist():
                row += 1
                rows.append(self._row(values, row, problems))
            yield item_batch(rows)
        problems.raise_if_any("Name pictures as they are named in the folder or zip of pictures")

    def _row(self, values: dict[str, Any], row: int, problems: Problems) -> dict[str, Any]:
        item, title, year = values["item_id"], values.get("title"), values.get("year")
        categories = values.get("categories") or []
        if isinstance(categories, str):
            categories = categories.split(self._separator)
        names = [name.strip() for name in categories if name and name.strip()]
        picture, url = values.get("image"), None
        if picture and picture.startswith(("http://", "https://")):
            picture, url = None, picture
            if self.pictures:
                picture = self.pictures.find(item)
        elif picture and not is_inside(picture):
            problems.add(f"row {row}, {self._columns['image']}", f"{picture!r} leads out of the folder of pictures")
        elif self.pictures:
            picture = (self.pictures.find(picture) or picture) if picture else self.pictures.find(item)
        return {
            "item_id": item,
            "title": title,
            "text": compose_text(title, year, names, values.get("text")),
            "categories": names,
            "year": year,
            "picture": picture,
            "picture_url": url,
        }
