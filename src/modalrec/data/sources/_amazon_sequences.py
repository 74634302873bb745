"""Amazon reviews in the form that semantic-ID papers share: `NAME.inter.json` and `NAME.item.json`, order only."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from modalrec.data.archives import Archive
from modalrec.data.delimited import UNREADABLE, open_binary
from modalrec.data.sources import event_batch, find_file, has_file, item_batch
from modalrec.data.sources._amazon_products import Field, product_text, product_values
from modalrec.data.sources._json_lines import BadLine
from modalrec.errors import DataError, Problems

BATCH = 100_000
FORM = '{"item": {"title", "description", "brand", "categories"}}'


def has_sequences(folder: Path) -> bool:
    """Whether a folder has both files."""
    return has_file(folder, "*.item.json") and has_file(folder, "*.inter.json")


class Sequences:
    """Reads the two files.

    Args:
        folder: Where they are.
        fields: What the text is made of, in this order.
        pictures: Pictures by item id.
        counts: What is counted on the way is put here.

    Raises:
        DataError: A file is missing, or there are several.
    """

    def __init__(
        self, folder: Path, fields: tuple[Field, ...], pictures: Archive | None, counts: dict[str, int]
    ) -> None:
        self.items_file = find_file(folder, ["*.item.json"], "items")
        self.events_file = find_file(folder, ["*.inter.json"], "interactions")
        self._fields = fields
        self._pictures = pictures
        self._counts = counts

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the products, see `Source.items`."""
        problems = Problems(self.items_file)
        rows = []
        counts = {"titles": 0, "descriptions": 0}
        for item, fields in _load(self.items_file, problems):
            try:
                if not item or not isinstance(fields, dict):
                    raise BadLine("is not an object" if item else "its id is empty")
                rows.append(self._row(item, fields))
            except BadLine as fault:
                problems.add(f"item {item!r}", str(fault))
                continue
            for count in counts:
                counts[count] += bool(fields.get(count.removesuffix("s")))
        self._counts.update(counts)
        problems.raise_if_any(f"Each item is written as {FORM}")
        yield from (item_batch(rows[begin : begin + BATCH]) for begin in range(0, len(rows), BATCH))

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the purchases user by user, see `Source.interactions`."""
        problems = Problems(self.events_file)
        users: list[str] = []
        items: list[str] = []
        for user, history in _load(self.events_file, problems):
            if not user or not isinstance(history, list):
                problems.add(f"user {user!r}", "is not a list of item ids" if user else "the id is empty")
                continue
            wrong = [
                place
                for place, item in enumerate(history)
                if isinstance(item, bool) or not isinstance(item, int | str) or item == ""
            ]
            problems.extend([f"user {user!r}, place {place}" for place in wrong], "is no item id")
            users += [user] * len(history)
            items += map(str, history)
        problems.raise_if_any('Each user is written as {"user": [item, item, ...]}, the oldest item first')
        for begin in range(0, len(users), BATCH):
            yield event_batch(
                pa.array(users[begin : begin + BATCH], pa.string()), pa.array(items[begin : begin + BATCH], pa.string())
            )

    def _row(self, item: str, fields: dict[str, Any]) -> dict[str, Any]:
        categories = fields.get("categories")
        if isinstance(categories, str):
            fields = fields | {"categories": categories.split(",")}
        values = product_values(fields)
        return {
            "item_id": item,
            "title": " ".join(values["title"]) or None,
            "text": product_text(values, self._fields),
            "categories": values["categories"],
            "picture": self._pictures.find(item) if self._pictures else None,
        }


def _load(path: Path, problems: Problems) -> list[tuple[str, Any]]:
    """The members of a JSON file's one object, those with a repeated key too."""
    with open_binary(path) as file:
        try:
            content = json.loads(file.read(), object_pairs_hook=_Members)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}: line {error.lineno}, column {error.colno}: {error.msg}; the file is cut short or not JSON, "
                "fetch it again"
            ) from None
        except (UnicodeDecodeError, RecursionError, *UNREADABLE) as error:
            raise DataError(f"{path}: cannot be read as JSON ({error}); fetch it again") from None
    if not isinstance(content, _Members) or not content.pairs:
        raise DataError(f"{path}: expected one JSON object with an entry for each id, found {str(content)[:40]!r}")
    problems.extend([f"id {key!r}" for key in content.twice], "stands twice")
    return [(key, value.plain() if isinstance(value, _Members) else value) for key, value in content.pairs]


class _Members(dict[str, Any]):
    """A JSON object that remembers repeated keys, which a dict would drop without a word."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
        seen: set[str] = set()
        self.twice = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]

    def plain(self) -> dict[str, Any]:
        return dict(self)
