"""The releases of the Amazon reviews as they are distributed: which files a folder holds, and the reviews in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from modalrec.data.archives import is_inside
from modalrec.data.delimited import read_delimited, read_header
from modalrec.data.sources import event_batch
from modalrec.data.sources._json_lines import Lines
from modalrec.errors import ConfigError, DataError

COLUMNS = {
    2014: ("reviewerID", "asin", "unixReviewTime", "overall"),
    2018: ("reviewerID", "asin", "unixReviewTime", "overall"),
    2023: ("user_id", "parent_asin", "timestamp", "rating"),
}
PER_SECOND = {2014: 1, 2018: 1, 2023: 1000}
PARTS = ("train", "valid", "test")
EXPECTED = {
    2014: "meta_NAME.json.gz and reviews_NAME_5.json.gz or reviews_NAME.json.gz",
    2018: "meta_NAME.json.gz and NAME_5.json.gz or NAME.json.gz",
    2023: "meta_NAME.jsonl.gz and NAME.jsonl.gz, NAME.csv.gz, or NAME.train.csv.gz, .valid and .test",
}


@dataclass(frozen=True)
class Files:
    """The files of a release in a folder.

    Attributes:
        release: 2014, 2018 or 2023.
        products: The metadata.
        reviews: The reviews: one file, or the three parts of the 5-core of 2023.
    """

    release: int
    products: Path
    reviews: tuple[Path, ...]


def has_release(folder: Path) -> bool:
    """Whether a folder has metadata and reviews of any release."""
    return any(_reviews(folder, release, meta) for release in EXPECTED for meta in _products(folder, release))


def find_release(folder: Path, release: int | None, products: str | None, reviews: str | None) -> Files:
    """The files of a release.

    Args:
        folder: Where they are.
        release: 2014, 2018 or 2023; None for the one that the names are of.
        products: Name of the metadata, where there are several.
        reviews: Name of the reviews, where there are several.

    Raises:
        ConfigError: A name leads out of the folder.
        DataError: Files are missing, or several could be meant.
    """
    for field, name in (("metadata", products), ("reviews", reviews)):
        if name is not None and not is_inside(name):
            raise ConfigError(f"source.{field}: {name!r} is outside of {folder}; put it there and give its name")
        if name is not None and not (folder / name).is_file():
            raise DataError(f"{folder}: no file {name!r} for source.{field}")
    found = []
    for one in (release,) if release else EXPECTED:
        for meta in [folder / products] if products else _products(folder, one):
            choices = [(folder / reviews,)] if reviews else _reviews(folder, one, meta)
            found += [Files(one, meta, choice) for choice in choices if not reviews or _fits(folder / reviews, one)]
    if len(found) == 1:
        return found[0]
    if not found:
        files = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        wanted = [f"  {one}: {names}" for one, names in EXPECTED.items() if release in (None, one)]
        raise DataError(f"{folder}: holds {files}, no release of the Amazon reviews. Give\n" + "\n".join(wanted))
    fitting = [f"{files.products.name} with {', '.join(path.name for path in files.reviews)}" for files in found]
    raise DataError(
        f"{folder}: more than one set of reviews: {'; '.join(fitting)}. Name one in source.reviews (and in "
        "source.metadata and source.release where these differ)"
    )


def read_reviews(files: Files, max_bad_share: float, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
    """Yields the reviews, see `Source.interactions`; `counts` gets the bad lines."""
    user, item, time, rating = COLUMNS[files.release]
    fields = [pa.field(name, pa.string(), nullable=False) for name in (user, item)]
    fields += [pa.field(time, pa.int64(), nullable=False), pa.field(rating, pa.float64())]
    schema = pa.schema(fields)
    counts["bad_review_lines"] = 0
    for path in files.reviews:
        if ".csv" in path.suffixes:
            batches = read_delimited(path, schema)
        else:
            lines = Lines(path, max_bad_share)
            batches = lines.columns(schema)
        for batch in batches:
            users, items, times, ratings = batch.columns
            yield event_batch(users, items, times, ratings.cast(pa.float32()))
        if ".csv" not in path.suffixes:
            counts["bad_review_lines"] += lines.bad


def _products(folder: Path, release: int) -> list[Path]:
    return _present(folder, "meta_*.jsonl" if release == 2023 else "meta_*.json")


def _reviews(folder: Path, release: int, products: Path) -> list[tuple[Path, ...]]:
    """All that could be the reviews of these products."""
    name = products.name.partition(".")[0].removeprefix("meta_")
    if release == 2023:
        single = [path for end in ("jsonl", "csv") for path in _present(folder, f"{name}.{end}")]
        choices: list[tuple[Path, ...]] = [(path,) for path in single if _fits(path, release)]
        parts = [_present(folder, f"{name}.{part}.csv") for part in PARTS]
        if all(len(paths) == 1 for paths in parts):
            choices.append(tuple(paths[0] for paths in parts))
        return choices
    before = "reviews_" if release == 2014 else ""
    return [(path,) for end in ("", "_5") for path in _present(folder, f"{before}{name}{end}.json")]


def _fits(path: Path, release: int) -> bool:
    """Whether a name, and of a table its header, is that of a release's reviews."""
    kinds = path.name.removesuffix(".gz")
    if release != 2023:
        return kinds.endswith(".json") and path.name.startswith("reviews_") == (release == 2014)
    if not kinds.endswith(".csv"):
        return kinds.endswith(".jsonl")
    try:
        return set(COLUMNS[2023]) <= set(read_header(path))
    except DataError:
        return False


def _present(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for end in ("", ".gz") for path in folder.glob(pattern.replace("[", "[[]") + end))
