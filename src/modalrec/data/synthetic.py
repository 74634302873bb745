"""A made-up MicroLens_1M_MMCTR of any size: its files, columns and published shape, none of its content.

Videos belong to kinds, users like two kinds and popular videos, and a third of the rows are drawn so; the others are
drawn evenly. So a model has something to learn, and popularity tells most labels, as it does in the real data; but no
result on it says anything of real users.
"""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from modalrec import config
from modalrec.artifacts.files import folder_in_place
from modalrec.errors import ArtifactError
from modalrec.run import Run

KINDS, LIKED = 64, 2
"""Kinds of videos, and how many of them a user likes."""
LEVELS = 11
TAGS_PER_ITEM = 5
CHUNK = 50_000
"""Users, or items, that are made at a time."""
MARK = b"modalrec.synthetic"
NOTICE = "SYNTHETIC.txt"
TEXT = (
    "All of this is made up by `modalrec generate microlens`: the users, the videos, the rows and the vectors. It has "
    "the form and the size of MicroLens_1M_MMCTR and nothing of its content. It serves tests of speed and memory; "
    "results on it say nothing about any model.\n"
)

# I items of a chunk, U users of a chunk, R rows, E entries of histories, T tags of an item, D length of vectors.


class Shape(config.Config):
    """How much is made.

    Attributes:
        users: Users; the published data has a million.
        items: Videos.
        rows: Rows of all parts: an eighth is for test, a 300th for validation, the rest for training.
        tags: Tags; a video has up to five.
        history: Mean length of the histories, roughly, before the longest are cut.
        longest: Length of the longest history.
        text_dimension: Length of the made-up text vectors; 0 leaves them out.
        image_dimension: Length of the made-up image vectors; 0 leaves them out.
        item_dimension: Length of the vectors in item_info and item_emb.
    """

    users: PositiveInt = 1_000_000
    items: int = Field(default=91_717, ge=KINDS)
    rows: int = Field(default=3_000_000, ge=300)
    tags: int = Field(default=11_740, ge=KINDS)
    history: float = Field(default=9, ge=1)
    longest: PositiveInt = 100
    text_dimension: int = Field(default=768, ge=0)
    image_dimension: int = Field(default=1024, ge=0)
    item_dimension: PositiveInt = 128


def generate_microlens(folder: Path, shape: Shape, run: Run) -> None:
    """Writes the files chunk by chunk; memory does not grow with the number of rows.

    Args:
        folder: Where to write them; it must not exist, or be empty.
        shape: How much of them.
        run: Seed and progress.

    Raises:
        ArtifactError: There is something in the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtifactError(f"{folder}: exists and is not empty; remove it or name another folder")
    with folder_in_place(folder) as building:
        (building / NOTICE).write_text(TEXT, encoding="utf-8")
        catalogue = _Catalogue(shape, run.rng("items"))
        _write_items(building, catalogue, run)
        _write_rows(building, catalogue, run)
    run.say(f"{folder}: made up, {shape.users:,} users, {shape.items:,} videos, {shape.rows:,} rows; see {NOTICE}")


class _Catalogue:
    """The videos: kinds, popularity, and how to draw some.

    Attributes:
        kinds: [items] kind of every video, numbered from 0.
        levels: [2, items] likes and views from 0 to 10, the latter with some noise.
    """

    def __init__(self, shape: Shape, rng: np.random.Generator) -> None:
        self.shape = shape
        n = shape.items
        self.kinds = np.append(np.arange(KINDS), rng.integers(0, KINDS, n - KINDS)).astype(np.int32)
        self.weights = rng.permutation(1 / np.arange(1, n + 1) ** 0.8)
        ranks = np.argsort(np.argsort(self.weights))
        noisy = np.clip(ranks + rng.normal(0, n / 20, n), 0, n - 1)
        self.levels = np.stack([ranks * LEVELS // n, noisy.astype(np.int64) * LEVELS // n])
        self._order = np.argsort(self.kinds, kind="stable")
        self._heights = np.cumsum(self.weights[self._order])
        ends = np.searchsorted(self.kinds[self._order], np.arange(KINDS + 1))
        self._bounds = np.append(0, self._heights)[ends]

    def liked(self, kinds: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """A video of each of these kinds, popular ones more often."""
        low, high = self._bounds[kinds], self._bounds[kinds + 1]
        places = np.searchsorted(self._heights, rng.uniform(low, high), side="right")
        return 1 + self._order[np.minimum(places, len(self._order) - 1)]


def _write_items(folder: Path, catalogue: _Catalogue, run: Run) -> None:
    shape, rng = catalogue.shape, run.rng("vectors")
    lengths = {"txt_emb_BERT": shape.text_dimension, "img_emb_CLIPRN50": shape.image_dimension}
    lengths = {name: length for name, length in lengths.items() if length}
    centres = {name: rng.standard_normal((KINDS, length), np.float32) for name, length in lengths.items()}
    centres["item_emb_d128"] = rng.standard_normal((KINDS, shape.item_dimension), np.float32)
    rows = folder / "MicroLens_1M_x1"
    rows.mkdir()
    with ExitStack() as stack:
        feature, info, emb = (
            stack.enter_context(_Writer(path))
            for path in (folder / "item_feature.parquet", rows / "item_info.parquet", folder / "item_emb.parquet")
        )
        padding = {"item_id": pa.array([0]), "item_tags": _lists(np.zeros((1, TAGS_PER_ITEM), np.int64))}
        info.write(padding | {"item_emb_d128": _lists(np.zeros((1, shape.item_dimension), np.float32))})
        for begin in run.track(range(0, shape.items, CHUNK), "videos made", -(-shape.items // CHUNK)):
            kinds_I = catalogue.kinds[begin : begin + CHUNK]
            ids_I = np.arange(begin, begin + len(kinds_I)) + 1
            of_kind_IT = rng.integers(0, shape.tags, (len(kinds_I), TAGS_PER_ITEM)) // KINDS * KINDS + kinds_I[:, None]
            tags_IT = np.where(rng.random(of_kind_IT.shape) < 0.5, 0, np.minimum(1 + of_kind_IT, shape.tags))
            vectors = {name: _lists(_around(centre_KD[kinds_I], rng)) for name, centre_KD in centres.items()}
            own = {"item_id": pa.array(ids_I), "item_tags": _lists(tags_IT)}
            given = {"item_emb_d128": vectors.pop("item_emb_d128")}
            titles = [f"Synthetic video {item} of kind {kind}" for item, kind in zip(ids_I, kinds_I, strict=True)]
            likes, views = catalogue.levels[:, begin : begin + CHUNK]
            levels = {"likes_level": pa.array(likes), "views_level": pa.array(views)}
            feature.write({"item_id": own["item_id"], "item_title": pa.array(titles), **own, **levels, **vectors})
            info.write(own | given)
            emb.write({"item_id": own["item_id"]} | given)


def _write_rows(folder: Path, catalogue: _Catalogue, run: Run) -> None:
    users = catalogue.shape.users
    with ExitStack() as stack:
        rows = folder / "MicroLens_1M_x1"
        parts = {name: stack.enter_context(_Writer(rows / f"{name}.parquet")) for name in ("train", "valid", "test")}
        histories = stack.enter_context(_Writer(folder / "item_seq.parquet"))
        done = {"all": 0, "valid": 0, "test": 0}
        for begin in run.track(range(0, users, CHUNK), "users made", -(-users // CHUNK)):
            end = min(begin + CHUNK, users)
            rng = run.rng("users", begin)
            kinds_UK = rng.integers(0, KINDS, (end - begin, LIKED))
            items, offsets = _histories(catalogue, kinds_UK, rng)
            seen = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(items))
            histories.write({"user_id": pa.array(np.arange(begin, end) + 1), "item_seq": seen})
            done["all"], before = catalogue.shape.rows * end // users, done["all"]
            users_R = np.sort(rng.integers(0, end - begin, done["all"] - before))
            table = _rows(catalogue, kinds_UK, users_R, begin, seen, rng)
            part_R = np.zeros(len(users_R), np.int8)
            places = rng.permutation(len(users_R))
            for number, (name, share) in enumerate((("valid", 300), ("test", 8)), 1):
                done[name], sure = done["all"] // share, done[name]
                part_R[places[: done[name] - sure]] = number
                places = places[done[name] - sure :]
            for number, (name, writer) in enumerate(parts.items()):
                kept = table.drop_columns(["label"]) if name == "test" else table
                kept = kept.filter(pa.array(part_R == number))
                writer.write(dict(zip(kept.column_names, kept.columns, strict=True)))


def _histories(
    catalogue: _Catalogue, kinds_UK: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What each user has watched, one user after the other, and where each begins."""
    shape = catalogue.shape
    lengths_U = rng.lognormal(np.log(shape.history) - 0.5, 1.0, len(kinds_UK)).astype(np.int64)
    lengths_U = np.clip(lengths_U, 1, shape.longest)
    owners_E = np.repeat(np.arange(len(kinds_UK)), lengths_U)
    kinds_E = kinds_UK[owners_E, rng.integers(0, LIKED, len(owners_E))]
    kinds_E = np.where(rng.random(len(owners_E)) < 0.2, rng.integers(0, KINDS, len(owners_E)), kinds_E)
    return catalogue.liked(kinds_E, rng), np.concatenate([[0], np.cumsum(lengths_U)])


def _rows(
    catalogue: _Catalogue, kinds_UK: NDArray[np.int64], users_R: NDArray[np.int64], first: int, seen: pa.ListArray,
    rng: np.random.Generator,
) -> pa.Table:  # fmt: skip
    labels_R = (rng.random(len(users_R)) < 1 / 3).astype(np.int64)
    liked_R = catalogue.liked(kinds_UK[users_R, rng.integers(0, LIKED, len(users_R))], rng)
    items_R = np.where(labels_R == 1, liked_R, rng.integers(1, catalogue.shape.items + 1, len(users_R)))
    likes_R, views_R = catalogue.levels[:, items_R - 1]
    return pa.table(
        {
            "user_id": users_R + first + 1,
            "item_seq": seen.take(pa.array(users_R)),
            "item_id": items_R,
            "likes_level": likes_R,
            "views_level": views_R,
            "label": labels_R,
        }
    )


def _around(centres_ID: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Vectors in a cloud around these."""
    return centres_ID + 2 * rng.standard_normal(centres_ID.shape, np.float32)


def _lists(values_ID: NDArray[np.float32] | NDArray[np.int64]) -> pa.Array:
    offsets = np.arange(len(values_ID) + 1, dtype=np.int32) * values_ID.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values_ID.reshape(-1)))


class _Writer:
    """A parquet file that says that it is made up, and takes its columns from the first rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, columns: dict[str, pa.Array]) -> None:
        table = pa.table(columns).replace_schema_metadata({MARK: TEXT.encode()})
        if self._writer is None:
            vectors = [name for name, column in columns.items() if "_emb_" in name]
            self._writer = pq.ParquetWriter(
                self._path, table.schema, use_dictionary=[name for name in columns if name not in vectors]
            )
        self._writer.write_table(table)
