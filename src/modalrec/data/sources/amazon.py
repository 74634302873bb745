"""Amazon reviews in the form that semantic-ID papers share: `NAME.inter.json` and `NAME.item.json`, order only."""

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from modalrec import config
from modalrec.data.archives import Archive
from modalrec.data.delimited import UNREADABLE, open_binary
from modalrec.data.sources import Source, event_batch, find_file, find_pictures, has_file, item_batch
from modalrec.data.titles import compose_text
from modalrec.errors import DataError, Problems

BATCH = 100_000
FORM = '{"item": {"title", "description", "brand", "categories"}}'


class Amazon(Source):
    """Products with texts, and each user's purchases in order, without times."""

    class Config(config.Config):
        """Settings.

        Attributes:
            images: Folder or zip in the source folder, with one picture an item, named by the item's id; by default
                `images` or `images.zip` where there is one.
        """

        name: Literal["amazon"] = "amazon"
        images: str | None = None

    expects = "NAME.inter.json and NAME.item.json"
    has_timestamps = False
    has_ratings = False

    def __init__(self, config: Config, folder: Path) -> None:
        self.items_file = find_file(folder, ["*.item.json"], "items")
        self.events_file = find_file(folder, ["*.inter.json"], "interactions")
        self._pictures = find_pictures(folder, config.images)
        if self._pictures and self._pictures.path.is_file():
            self.other_files = (self._pictures.path,)
        self.counts: dict[str, int] = {"titles": 0, "descriptions": 0}

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder looks like this source."""
        return has_file(folder, "*.item.json") and has_file(folder, "*.inter.json")

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the products, see `Source.items`."""
        problems = Problems(self.items_file)
        rows = []
        self.counts = dict.fromkeys(self.counts, 0)
        for item, fields in _load(self.items_file, problems):
            fault = _fault(fields)
            if not item or fault:
                problems.add(f"item {item!r}", fault or "its id is empty")
                continue
            rows.append(self._row(item, fields))
            self.counts["titles"] += bool(fields.get("title"))
            self.counts["descriptions"] += bool(fields.get("description"))
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

    def pictures(self) -> Archive | None:
        """The pictures, where there are any."""
        return self._pictures

    def _row(self, item: str, fields: dict[str, Any]) -> dict[str, Any]:
        title, brand, description = (_clean(fields.get(name)) for name in ("title", "brand", "description"))
        categories = fields.get("categories") or []
        names = categories.split(",") if isinstance(categories, str) else categories
        names = [name for name in map(_clean, names) if name]
        return {
            "item_id": item,
            "title": title,
            "text": compose_text(title, None, names, brand, description),
            "categories": names,
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


def _fault(fields: Any) -> str:
    if not isinstance(fields, dict):
        return "is not an object"
    for name in ("title", "description", "brand", "categories"):
        value = fields.get(name)
        texts = value if name == "categories" and isinstance(value, list) else [value]
        if not all(text is None or isinstance(text, str) for text in texts):
            return f"{name} is not text"
    return ""


def _clean(text: str | None) -> str | None:
    text = " ".join(html.unescape(text or "").split())
    return text if any(letter.isalnum() for letter in text) else None
