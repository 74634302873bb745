"""The products of the Amazon releases: one object a line, with other names in each of them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from modalrec.data.archives import Archive
from modalrec.data.markup import plain_text
from modalrec.data.sources import item_batch
from modalrec.data.sources._json_lines import BadLine, Lines
from modalrec.data.titles import has_letters, join_sentences

Field = Literal["title", "brand", "categories", "features", "description"]
FIELDS: tuple[Field, ...] = ("title", "categories", "brand", "features", "description")
BATCH = 10_000
ITEM_KEYS = {2014: "asin", 2018: "asin", 2023: "parent_asin"}
NAMES: dict[Field, tuple[str, ...]] = {
    "title": ("title",),
    "brand": ("brand", "store"),
    "categories": ("categories", "category"),
    "features": ("features", "feature"),
    "description": ("description",),
}
"""Members of an object by what they say; the first that says anything counts."""
UNFORMATTED = "getTime"
"""In titles of 2018 that are the script of a page instead of a title."""
LONGEST_CATEGORY = 100
"""Characters; what is longer got into the list by mistake."""


class Products:
    """Reads `meta_NAME`: one pass, a batch at a time; an item's first line counts.

    Args:
        path: The file.
        release: 2014, 2018 or 2023.
        fields: What the text is made of, in this order.
        pictures: Pictures by item id.
        max_bad_share: Share of bad lines up to which they are left out.
        counts: What is counted on the way is put here.
    """

    def __init__(
        self,
        path: Path,
        release: int,
        fields: tuple[Field, ...],
        pictures: Archive | None,
        max_bad_share: float,
        counts: dict[str, int],
    ) -> None:
        self.path = path
        self._release = release
        self._key = ITEM_KEYS[release]
        self._fields = fields
        self._pictures = pictures
        self._max_bad_share = max_bad_share
        self._counts = counts

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the items, see `Source.items`."""
        counts = dict.fromkeys(
            ("titles", "descriptions", "picture_urls", "unformatted_titles", "repeated_items", "bad_item_lines"), 0
        )
        lines = Lines(self.path, self._max_bad_share)
        seen: set[str] = set()
        rows = []
        for number, found in lines.objects(literals=self._release == 2014):
            try:
                row = self._row(found, counts)
            except BadLine as fault:
                lines.note(number, str(fault))
                continue
            if row["item_id"] in seen:
                counts["repeated_items"] += 1
                continue
            seen.add(row["item_id"])
            rows.append(row)
            if len(rows) == BATCH:
                yield item_batch(rows)
                rows = []
        lines.close()
        self._counts.update(counts, bad_item_lines=lines.bad)
        if rows:
            yield item_batch(rows)

    def _row(self, found: dict[str, Any], counts: dict[str, int]) -> dict[str, Any]:
        item = found.get(self._key)
        if not isinstance(item, str) or not item:
            raise BadLine(f"{self._key} is {'missing' if item is None else f'no item id: {item!r:.40}'}")
        values = product_values(found)
        title = " ".join(values["title"]) or None
        if title and UNFORMATTED in title:
            counts["unformatted_titles"] += 1
            title, values["title"] = None, []
        url = _url(found)
        counts["titles"] += bool(title)
        counts["descriptions"] += bool(values["description"])
        counts["picture_urls"] += bool(url)
        return {
            "item_id": item,
            "title": title,
            "text": product_text(values, self._fields),
            "categories": values["categories"],
            "picture": self._pictures.find(item) if self._pictures else None,
            "picture_url": url,
        }


def product_values(found: Mapping[str, Any]) -> dict[Field, list[str]]:
    """What is said of a product, by field, cleaned of markup.

    Raises:
        BadLine: A member is neither text nor a list of texts; all of them in one.
    """
    values: dict[Field, list[str]] = {}
    faults = []
    for field, names in NAMES.items():
        values[field] = []
        for name in names:
            try:
                parts = [text for part in _texts(found.get(name)) if has_letters(text := plain_text(part))]
            except TypeError:
                faults.append(f"{name} is not text")
                continue
            # Paths to a category share their beginning; in one path a name may well stand twice.
            one_path = field == "categories" and not any(isinstance(part, list) for part in found.get(name) or ())
            values[field] = parts if one_path else list(dict.fromkeys(parts))
            if parts:
                break
    if faults:
        raise BadLine("; ".join(faults))
    values["categories"] = [name for name in values["categories"] if len(name) <= LONGEST_CATEGORY]
    return values


def product_text(values: Mapping[Field, list[str]], fields: Iterable[Field]) -> str | None:
    """The fields as sentences, in their order; names of categories are joined by commas."""
    parts: list[str] = []
    for field in fields:
        parts += [", ".join(values[field])] if field == "categories" else values[field]
    return join_sentences(parts)


def _texts(value: Any) -> list[str]:
    """The texts of a text, a list, or a list of lists.

    Raises:
        TypeError: There is anything else among them.
    """
    if value is None or isinstance(value, str):
        return [value or ""]
    if not isinstance(value, list):
        raise TypeError
    flat = [part for inner in value for part in (inner if isinstance(inner, list) else [inner])]
    if not all(part is None or isinstance(part, str) for part in flat):
        raise TypeError
    return [part for part in flat if part]


def _url(found: dict[str, Any]) -> str | None:
    """Where the first picture is that is large enough: stored ones are small, and thumbnails smaller still."""
    pictures = [one for one in _list(found.get("images")) if isinstance(one, dict)]
    pictures.sort(key=lambda one: one.get("variant") != "MAIN")
    urls = [one.get(size) for size in ("large", "hi_res", "thumb") for one in pictures[:1]]
    urls += [found.get("imUrl"), *_list(found.get("imageURLHighRes"))[:1], *_list(found.get("imageURL"))[:1]]
    return next((url for url in urls if isinstance(url, str) and url.startswith(("http://", "https://"))), None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
