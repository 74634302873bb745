"""Training DIN beside FuxiCTR's, and content codes beside plain look-ups; CPU-seconds, one thread each, interleaved.

FuxiCTR is installed in an environment of its own (`--fuxictr DIR`), in which `_ctr_peer.py` drives it. Both start from
the same weights and get the same generated rows in the same batches, in the shape of MicroLens' challenge: 91,717 items
with tags and two levels of popularity, histories of at most 64 with a mean of about 22, fields of 64, attention [512,
256], layers [1024, 512, 256], no dropout and no embedding decay, so that the losses can be compared. The clock covers a
step; ours covers the making of the batch too, FuxiCTR's finds its batch made. `adam` updates whole tables as FuxiCTR
does and has its losses; `lazy_adam` updates the rows of the batch alone.

Codes: the mean of 1,024 code embeddings (512 of text and 512 of picture from one codebook of 1,024) of every item of a
batch of rows, forward and backward, looked up at every place of every history as published, and counted once a distinct
item.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from modalrec.config import resolve
from modalrec.data.features import Bag, Features, Field
from modalrec.data.rows import Rows
from modalrec.recommenders import ItemSpace
from modalrec.recommenders._pooling import mean_of_codes
from modalrec.recommenders._row_space import RowSpace
from modalrec.recommenders.din import DIN, DINConfig
from modalrec.training.loop import TrainingConfig
from modalrec.training.rows import collate
from tests.recommenders.din_cases import write_case

ITEMS, TAGS, LEVELS, HISTORY, MEAN = 91_717, 11_741, 12, 64, 23
BATCH, STEPS, ROUNDS, RATE = 1024, 4, 2, 1e-3
SIZES = {"width": 64, "attention": [512, 256], "layers": [1024, 512, 256], "dropout": 0.0, "without": ["codes"]}
CODES, CODEBOOK, PLAIN_ROWS = 1024, 1024, 32


def generated(n_rows: int) -> Rows:
    """Rows with Zipfian items; a label follows from the first tags of target and history, so that there is a loss."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, ITEMS + 1) ** 0.9
    lengths = np.minimum(rng.geometric(1 / MEAN, n_rows), HISTORY)
    drawn = rng.choice(ITEMS, n_rows + int(lengths.sum()), p=share / share.sum()).astype(np.int32)
    items, past = drawn[:n_rows], drawn[n_rows:]
    ends = np.cumsum(lengths)
    tags = rng.integers(1, TAGS, 5 * ITEMS).astype(np.int32)
    level = rng.integers(1, LEVELS, (2, ITEMS)).astype(np.int32)
    features = Features()
    for name, values in zip(("likes_level", "views_level"), level, strict=True):
        features = features.with_field(Field(name, "item", "category", LEVELS, popularity=True), values)
    features = features.with_field(Field("tags", "item", "bag", TAGS), Bag(tags, np.arange(0, 5 * ITEMS + 1, 5)))
    odds = 0.4 * (level[0, items] - 6)
    return Rows(
        users=np.arange(n_rows, dtype=np.int32),
        items=items,
        labels=(rng.random(n_rows) < 1 / (1 + np.exp(-odds))).astype(np.int8),
        split=np.zeros(n_rows, np.int8),
        begins=ends - lengths,
        ends=ends,
        past=past,
        n_users=n_rows,
        n_items=ITEMS,
        split_name="given",
        features=features,
    )


def build(rows: Rows, tables: str) -> DIN:
    """The model, with the same first weights each time."""
    names = [str(item) for item in range(ITEMS)]
    torch.manual_seed(0)
    space = RowSpace.of(ItemSpace(names, names), [str(user) for user in range(rows.n_users)], rows)
    return DIN(resolve(DINConfig, {**SIZES, "tables": tables, "history": HISTORY}), space)


def ours(rows: Rows, tables: str) -> tuple[list[float], list[float]]:
    """Losses and CPU-seconds of every step."""
    model = build(rows, tables)
    steps = model.train().steps(TrainingConfig(weight_decay=0.0, clip_norm=10.0), 0)
    losses, seconds = [], []
    for begin in range(0, len(rows), BATCH):
        start = time.process_time()
        batch = collate(rows, np.arange(begin, begin + BATCH), HISTORY, "click")
        losses.append(steps.step(batch, RATE).losses["loss"])
        seconds.append(time.process_time() - start)
    return losses, seconds


def theirs(folder: Path, interpreter: Path) -> tuple[list[float], list[float]]:
    """The same of FuxiCTR."""
    command = [str(interpreter), str(Path(__file__).with_name("_ctr_peer.py")), str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    report = json.loads(done.stdout.splitlines()[-1])
    return report["losses"], report["seconds"]


def training(fuxictr: str) -> None:
    """Prints the comparison of training."""
    rows = generated(BATCH * (1 + STEPS))
    mean = float((rows.ends - rows.begins).mean())
    print(f"DIN, {ITEMS:,} items, mean history {mean:.1f} of {HISTORY}, batch {BATCH}; the first step is not measured")
    measured: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        write_case(Path(place), build(rows, "adam"), rows, np.arange(len(rows)), BATCH, RATE)
        for _ in range(ROUNDS):
            for name in ("FuxiCTR 2.3.7", "ours, adam", "ours, lazy_adam"):
                if not name.startswith("ours"):
                    losses[name], seconds = theirs(Path(place), Path(fuxictr) / "bin" / "python")
                else:
                    losses[name], seconds = ours(rows, name.rpartition(" ")[2])
                measured.setdefault(name, []).append(BATCH / statistics.median(seconds[1:]))
    for name, rates in measured.items():
        ratios = [mine / peer for mine, peer in zip(rates, measured["FuxiCTR 2.3.7"], strict=True)]
        shown = ", ".join(f"{loss:.6f}" for loss in losses[name])
        print(
            f"{name:16} {statistics.median(rates):8,.0f} rows/CPU-s  ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})  losses {shown}"
        )


def codes() -> None:
    """Prints the comparison of content codes."""
    rows = generated(BATCH)
    batch = collate(rows, np.arange(BATCH), HISTORY, "click")
    draw = torch.Generator().manual_seed(0)
    codes_UK = torch.randint(0, CODEBOOK, (len(batch["item"]), CODES), generator=draw, dtype=torch.int32)
    table_VD = torch.randn(CODEBOOK, 64, generator=draw).requires_grad_()
    places_P = torch.cat([batch["target"], batch["past"]])
    mean_of_codes(codes_UK[:2], table_VD)  # compiles the counting
    weight_PD = torch.randn(len(places_P), 64, generator=draw)
    start = time.process_time()
    fast_PD = torch.nn.functional.embedding(places_P, mean_of_codes(codes_UK, table_VD))
    torch.autograd.grad((fast_PD * weight_PD).sum(), table_VD)
    fast = BATCH / (time.process_time() - start)
    few = torch.cat([torch.arange(PLAIN_ROWS), BATCH + torch.nonzero(batch["row"] < PLAIN_ROWS)[:, 0]])
    padded_BL = torch.zeros(PLAIN_ROWS, HISTORY + 1, dtype=torch.int64)  # every place is looked up, padding too
    padded_BL.view(-1)[: len(few)] = places_P[few]
    start = time.process_time()
    slow_BLD = table_VD[codes_UK[padded_BL].long()].mean(2)
    torch.autograd.grad(slow_BLD.sum(), table_VD)
    slow = PLAIN_ROWS / (time.process_time() - start)
    plain_PD = table_VD[codes_UK[places_P[few]].long()].mean(1)
    difference = float((plain_PD - fast_PD[few]).abs().max())
    grads = [
        torch.autograd.grad((one * weight_PD[few]).sum(), table_VD, retain_graph=True)[0]
        for one in (plain_PD, torch.nn.functional.embedding(places_P[few], mean_of_codes(codes_UK, table_VD)))
    ]
    apart = float((grads[0] - grads[1]).abs().max() / grads[0].abs().max())
    print(f"{CODES} codes an item, {len(codes_UK):,} distinct items at {len(places_P):,} places")
    print(
        f"looked up {slow:,.0f} rows/CPU-s ({PLAIN_ROWS} rows, {HISTORY + 1} places each), counted {fast:,.0f}: "
        f"{fast / slow:,.0f} times; differences {difference:.1e}, of gradients {apart:.1e} of the largest"
    )


def main(argv: Sequence[str] = ()) -> None:
    """Prints both."""
    torch.set_num_threads(1)
    codes()
    if "FUXICTR" in os.environ:
        training(os.environ["FUXICTR"])
    else:
        print("training beside FuxiCTR: give --fuxictr DIR, a venv with fuxictr==2.3.7")


if __name__ == "__main__":
    main()
