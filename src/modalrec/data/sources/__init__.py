"""Sources read one form of raw data. One file is one source; see `Source`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from modalrec.config import Config
from modalrec.data.archives import Archive, is_inside, open_archive
from modalrec.data.names import NAMES
from modalrec.errors import ConfigError, DataError

ITEM_ROWS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("categories", pa.list_(pa.string())),
        pa.field("year", pa.int32()),
        pa.field("picture", pa.string()),
        pa.field("picture_url", pa.string()),
    ]
)
"""One row an item. `text` is what text encoders read; `picture` the name of a file in `Source.pictures`; `picture_url`
where a picture could be fetched that is not there."""

EVENT_ROWS = pa.schema(
    [
        pa.field("user_id", NAMES, nullable=False),
        pa.field("item_id", NAMES, nullable=False),
        pa.field("timestamp", pa.int64()),
        pa.field("rating", pa.float32()),
        pa.field("role", pa.int8()),
        pa.field("label", pa.int8()),
        pa.field("history", pa.list_(NAMES)),
        pa.field("row_id", pa.int64()),
    ]
)
"""One row an event, in the file's order; ids that are whole numbers may come as int64. `timestamp` counts
`Source.per_second` since 1970, null throughout in order-only sources (see `Source.times_only_sort`). `role` is the
place of the event's part in `Source.parts`, or `CONTEXT`; null without both. `label`, `history` and `row_id` are those
of `modalrec.artifacts.schemas`, histories with the ids of items; each null throughout where `Source` says that there
are none."""

CONTEXT = -1
"""The role of an event that only tells when its user was active: dropped once sessions are cut; its item may be ""."""


class Source(ABC):
    """Raw data of one form, in one folder; reads in batches, so that the events may be larger than memory.

    Attributes:
        Config: The configuration class, with `name: Literal["<module>"]`.
        expects: The files that it looks for, for people.
        has_timestamps: Whether events have a time; without, their order in the file is all that is known.
        has_ratings: Whether events have a rating.
        items_file: Where the items come from, for messages.
        events_file: Where the events come from.
        other_files: More files that the dataset depends on.
        counts: What the source found on its way, for the summary; complete when all has been read.
        per_second: Ticks of a timestamp in a second: 1, or 1000 where milliseconds are known.
        has_roles: Whether events have a role.
        has_labels: Whether events have a label, perhaps hidden ones.
        has_histories: Whether each event comes with the items before it.
        has_row_ids: Whether the source numbers events.
        popularity: Names of item features that tell how popular an item is.
        parts: Names of parts that are split already: `train`, then `valid` where it is given, then the test sets.
        suggested: Settings of ingest that suit this source, for those that the user leaves open.
        times_only_sort: Timestamps are no times: they order the events of each user, and go then.
    """

    Config: ClassVar[type[Config]]
    expects: ClassVar[str]
    has_timestamps: bool
    has_ratings: bool
    items_file: Path
    events_file: Path
    counts: dict[str, int]
    other_files: tuple[Path, ...] = ()
    per_second: int = 1
    has_roles: bool = False
    has_labels: bool = False
    has_histories: bool = False
    has_row_ids: bool = False
    popularity: frozenset[str] = frozenset()
    parts: tuple[str, ...] = ()
    suggested: Mapping[str, Any] = {}
    times_only_sort: bool = False

    @abstractmethod
    def __init__(self, config: Any, folder: Path) -> None:
        """Finds the files and checks their headers.

        Raises:
            DataError: A file is missing, or its header is not as expected.
        """

    @classmethod
    @abstractmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder looks like this source."""

    @abstractmethod
    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the items as `ITEM_ROWS`, in the file's order.

        Raises:
            DataError: The file is malformed; all its problems in one error.
        """

    @abstractmethod
    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the events as `EVENT_ROWS`, in the file's order.

        Raises:
            DataError: The file is malformed; all its problems in one error.
        """

    def pictures(self) -> Archive | None:
        """The files that `picture` names, or None where there are none at all."""
        return None

    def item_features(self) -> pa.Table | None:
        """What is known of items besides their texts, or None.

        Returns:
            One row an item, in any order: `id` and a column for each feature, which is a string (a category), a list
            of strings (a bag of categories) or a float32 (a number); null is missing.

        Raises:
            DataError: The file is malformed; all its problems in one error.
        """
        return None

    def user_features(self) -> pa.Table | None:
        """What is known of users, as `item_features`."""
        return None


BASE = Source


def find_file(folder: Path, patterns: Iterable[str], what: str) -> Path:
    """The one file of a folder that matches one of the patterns, with or without `.gz`.

    Raises:
        DataError: There is none, or more than one.
    """
    patterns = list(patterns)
    found = sorted({path for pattern in patterns for end in ("", ".gz") for path in folder.glob(pattern + end)})
    if len(found) != 1:
        state = f"has {', '.join(path.name for path in found)}" if found else "has none"
        raise DataError(f"{folder}: {state} where one file of {what} is expected ({' or '.join(patterns)})")
    return found[0]


def has_file(folder: Path, *patterns: str) -> bool:
    """Whether a folder has a file that matches one of the patterns, with or without `.gz`."""
    return any(True for pattern in patterns for end in ("", ".gz") for _ in folder.glob(pattern + end))


def find_pictures(folder: Path, named: str | None) -> Archive | None:
    """Opens the folder or zip of pictures: the named one, else `images` or `images.zip` where there is one.

    Raises:
        ConfigError: The name leads out of the folder.
        DataError: The named one is missing, damaged or not safe to read.
    """
    if named is not None:
        if not is_inside(named):
            raise ConfigError(f"images: {named!r} is outside of {folder}; put it there and give its relative name")
        return open_archive(folder / named)
    standing = [folder / name for name in ("images", "images.zip") if (folder / name).exists()]
    return open_archive(standing[0]) if standing else None


def item_batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Items as a batch of `ITEM_ROWS`; missing keys are null."""
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in ITEM_ROWS]
    return pa.RecordBatch.from_arrays(columns, schema=ITEM_ROWS)


def event_batch(
    users: pa.Array,
    items: pa.Array,
    timestamps: pa.Array | None = None,
    ratings: pa.Array | None = None,
    roles: pa.Array | None = None,
    labels: pa.Array | None = None,
    histories: pa.Array | None = None,
    row_ids: pa.Array | None = None,
) -> pa.RecordBatch:
    """Events as a batch of `EVENT_ROWS`; users and items may be plain strings, too."""
    kept = (NAMES, pa.int64())
    ids = [one if one.type in kept else one.dictionary_encode() for one in (users, items)]
    given = [*ids, timestamps, ratings, roles, labels, histories, row_ids]
    columns = [
        pa.nulls(len(users), field.type) if column is None else column
        for field, column in zip(EVENT_ROWS, given, strict=True)
    ]
    named = [field.with_type(one.type) for field, one in zip(EVENT_ROWS, ids, strict=False)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema([*named, *list(EVENT_ROWS)[len(named) :]]))
