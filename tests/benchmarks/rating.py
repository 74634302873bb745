"""Training of ratings with cached vectors, beside two other ways to write it, in one run: rows per CPU-second.

`source`: the published form of a multimodal DLRM (the README of LiliMeng/Multimodal_DLRM): raw ids as floats through an
MLP, text and picture vectors beside them, all concatenated, a row at a time out of a table, batches of 32, Adam. Its
encoder ran inside the data loader; here it gets cached vectors as the others do. `plain`: DLRM as one writes it with
PyTorch alone: `nn.EmbeddingBag` with sparse gradients and Adagrad, a `DataLoader` over rows, vectors projected a row,
batches of 1024. `ours` has the form of `plain` (dots of all pairs), and its batches of 1024.

Shape: users, films and vectors of MovieLens-25M and CLIP ViT-B/32, made up; a third of the films. The first step of
each is not measured; ways alternate over the rounds.
"""

import statistics
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from modalrec.artifacts.embedding_lists import VectorLists
from modalrec.config import resolve
from modalrec.data.features import Bag, Features, Field
from modalrec.data.moments import FIELDS
from modalrec.data.rows import Rows
from modalrec.recommenders import ItemSpace
from modalrec.recommenders._row_space import RowSpace
from modalrec.recommenders.dlrm import DLRM, DLRMConfig
from modalrec.training.loop import TrainingConfig

USERS, FILMS, LENGTH, ROWS = 162_541, 20_000, 512, 200_000
YEARS, GENRES, WIDTH, TOP = 100, 20, 16, (64, 32)
BATCH, SOURCE_BATCH, RATE = 1024, 32, 1e-3
STEPS = {"ours": 60, "plain": 15, "source": 150}
ROUNDS = 3


def generated() -> tuple[Rows, list[VectorLists]]:
    """Rows in random order of users and films, stars that follow from both, and unit vectors of every film."""
    rng = np.random.default_rng(0)
    users = np.sort(rng.integers(0, USERS, ROWS)).astype(np.int32)
    items = np.minimum(rng.zipf(1.3, ROWS) - 1, FILMS - 1).astype(np.int32)
    taste = rng.normal(0, 0.5, USERS)[users] + rng.normal(0, 0.5, FILMS)[items]
    ratings = np.clip(np.round(2 * (3.5 + taste + rng.normal(0, 0.7, ROWS))) / 2, 0.5, 5).astype(np.float32)
    counts = rng.integers(1, 4, FILMS)
    genres = Bag(rng.integers(1, GENRES, counts.sum()).astype(np.int32), np.concatenate([[0], np.cumsum(counts)]))
    features = (
        Features()
        .with_field(Field("genres", "item", "bag", GENRES), genres)
        .with_field(Field("year", "item", "category", YEARS), rng.integers(1, YEARS, FILMS).astype(np.int32))
    )
    for one in FIELDS:
        features = features.with_field(one)
    empty = np.zeros(ROWS, np.int64)
    rows = Rows(
        users, items, (ratings >= 4).astype(np.int8), np.zeros(ROWS, np.int8), empty, empty, items[:0], USERS, FILMS,
        "random", features, {one.key: rng.normal(0, 1, ROWS).astype(np.float32) for one in FIELDS}, ratings=ratings,
    )  # fmt: skip
    lists = []
    for _ in ("text", "image"):
        vectors_NV = rng.standard_normal((FILMS, LENGTH)).astype(np.float32)
        vectors_NV /= np.linalg.norm(vectors_NV, axis=1, keepdims=True)
        lists.append(VectorLists.single(vectors_NV, np.ones(FILMS, bool)))
    return rows, lists


Step = Iterator[tuple[int, float]]
"""Rows of a step, and the CPU-seconds of it that went into building the batch."""


def ours(rows: Rows, lists: list[VectorLists]) -> Step:
    """Our model, batches and optimizer."""
    names = [str(film) for film in range(FILMS)]
    space = RowSpace.of(ItemSpace(names, names, text=lists[0], image=lists[1]), [""] * USERS, rows)
    torch.manual_seed(0)
    settings = {"interaction": "dot", "width": WIDTH, "top": TOP, "dropout": 0.0, "id_dropout": 0.0}
    model = DLRM(resolve(DLRMConfig, settings), space)
    steps = model.train().steps(TrainingConfig(weight_decay=0.0), 0)
    batches = model.batches(rows, np.arange(ROWS), BATCH, 0)
    for place, indices in enumerate(batches.plan(0)):
        start = time.process_time()
        batch = batches.build(0, place, indices)
        loading = time.process_time() - start
        steps.step(batch, RATE)
        yield len(indices), loading


class PlainRows(Dataset[tuple[Tensor, ...]]):
    """A row at a time, out of tensors."""

    def __init__(self, rows: Rows) -> None:
        self.users, self.items = torch.from_numpy(rows.users).long(), torch.from_numpy(rows.items).long()
        self.numbers = torch.from_numpy(np.stack([rows.values[one.key] for one in FIELDS], 1))
        self.ratings = torch.from_numpy(rows.ratings)

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        return self.users[row], self.items[row], self.numbers[row], self.ratings[row]


class PlainDlrm(nn.Module):
    """Embedding bags, a bottom MLP, projections, dots, a top MLP."""

    def __init__(self, rows: Rows, lists: list[VectorLists]) -> None:
        super().__init__()
        self.genres = rows.features.values["item_genres"]
        self.years = torch.from_numpy(np.asarray(rows.features.values["item_year"])).long()
        sizes = (USERS, FILMS, GENRES, YEARS)
        self.tables = nn.ModuleList(nn.EmbeddingBag(size, WIDTH, mode="mean", sparse=True) for size in sizes)
        self.biases = nn.ModuleList(nn.EmbeddingBag(size, 1, mode="mean", sparse=True) for size in sizes[:2])
        self.vectors = [torch.from_numpy(one.vectors_VD) for one in lists]
        self.projectors = nn.ModuleList(nn.Linear(LENGTH, WIDTH) for _ in lists)
        self.bottom = nn.Sequential(nn.Linear(len(FIELDS), 32), nn.ReLU(), nn.Linear(32, WIDTH), nn.ReLU())
        count = 1 + len(sizes) + len(lists)
        self.pairs = torch.tril_indices(count, count, -1)
        inputs = WIDTH + self.pairs.shape[1]
        self.top = nn.Sequential(
            nn.Linear(inputs, TOP[0]), nn.ReLU(), nn.Linear(TOP[0], TOP[1]), nn.ReLU(), nn.Linear(TOP[1], 1)
        )

    def forward(self, users: Tensor, items: Tensor, numbers: Tensor) -> Tensor:
        bags = self.genres.take(items.numpy())
        genres = self.tables[2](torch.from_numpy(bags.ids).long(), torch.from_numpy(bags.offsets[:-1]))
        found = [self.bottom(numbers), self.tables[0](users[:, None]), self.tables[1](items[:, None]), genres]
        found.append(self.tables[3](self.years[items][:, None]))
        found += [line(vectors[items]) for line, vectors in zip(self.projectors, self.vectors, strict=True)]
        stacked = torch.stack(found, 1)
        dots = torch.bmm(stacked, stacked.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
        said = self.top(torch.cat([found[0], dots], 1))
        return (said + self.biases[0](users[:, None]) + self.biases[1](items[:, None]))[:, 0] + 3.5


def plain(rows: Rows, lists: list[VectorLists]) -> Step:
    """PyTorch alone."""
    torch.manual_seed(0)
    model = PlainDlrm(rows, lists)
    sparse = [table.weight for table in (*model.tables, *model.biases)]
    known = {id(weight) for weight in sparse}
    optimizers = [
        torch.optim.Adagrad(sparse, lr=10 * RATE),
        torch.optim.Adam([one for one in model.parameters() if id(one) not in known], lr=RATE),
    ]
    loader = iter(DataLoader(PlainRows(rows), BATCH, shuffle=True))
    while True:
        start = time.process_time()
        users, items, numbers, ratings = next(loader)
        loading = time.process_time() - start
        for optimizer in optimizers:
            optimizer.zero_grad()
        nn.functional.mse_loss(model(users, items, numbers), ratings).backward()
        for optimizer in optimizers:
            optimizer.step()
        yield len(users), loading


class SourceRows(Dataset[tuple[Tensor, ...]]):
    """A row at a time, out of a table, with its film's cached vectors; stars over 5, as published."""

    def __init__(self, rows: Rows, lists: list[VectorLists]) -> None:
        self.table = pd.DataFrame({"userId": rows.users, "movieId": rows.items, "rating": rows.ratings})
        self.text, self.image = (torch.from_numpy(one.vectors_VD) for one in lists)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        found = self.table.iloc[row]
        film = int(found["movieId"])
        ids = torch.tensor([found["userId"], found["movieId"]], dtype=torch.float32)
        return ids, self.text[film], self.image[film], torch.tensor(found["rating"] / 5, dtype=torch.float32)


class SourceModel(nn.Module):
    """Ids as numbers through an MLP, concatenated with both vectors, one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(64 + 2 * LENGTH, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(self, ids: Tensor, text: Tensor, image: Tensor) -> Tensor:
        said: Tensor = self.top(torch.cat([self.dense(ids), text, image], 1))
        return said[:, 0]


def source(rows: Rows, lists: list[VectorLists]) -> Step:
    """The published form."""
    torch.manual_seed(0)
    model = SourceModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    loader = iter(DataLoader(SourceRows(rows, lists), SOURCE_BATCH, shuffle=True))
    while True:
        start = time.process_time()
        ids, text, image, ratings = next(loader)
        loading = time.process_time() - start
        optimizer.zero_grad()
        nn.functional.mse_loss(model(ids, text, image), ratings).backward()
        optimizer.step()
        yield len(ids), loading


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table; the first argument is another number of rounds."""
    rows, lists = generated()
    print(f"{USERS:,} users, {FILMS:,} films, two vectors of {LENGTH} each, {ROWS:,} rows; one thread")
    speeds: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    for _ in range(int(argv[0]) if argv else ROUNDS):
        for name, way in (("ours", ours), ("plain", plain), ("source", source)):
            steps = way(rows, lists)
            next(steps)
            begin = time.process_time()
            done = [next(steps) for _ in range(STEPS[name])]
            spent = time.process_time() - begin
            speeds.setdefault(name, []).append(sum(count for count, _ in done) / spent)
            shares.setdefault(name, []).append(sum(loading for _, loading in done) / spent)
    middle = {name: statistics.median(found) for name, found in speeds.items()}
    print("| way | rows per CPU-second | of which loading | ours is |\n|---|---|---|---|")
    for name, found in middle.items():
        ratio = "" if name == "ours" else f"{middle['ours'] / found:.1f} times"
        print(f"| {name} | {found:,.0f} | {100 * statistics.median(shares[name]):.0f} % | {ratio} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
