"""Sequential training and full ranking: ours beside RecBole and RecTools, interleaved, one thread each.

The peers are installed in an environment of their own (`--peers DIR`), in which `_sequential_peers.py` drives them. All
get the same generated sessions, learn from all events but each session's last two, with 64 wide states, 2 layers and 2
heads over at most the last 50 items, and rank each session's last event among all items. A target is an event that is
learnt from: every one but a session's first, once an epoch, for all of them. CPU-seconds of training cover batches,
steps and what the libraries do around them: a whole epoch of ours, for the peers some steps after the first. Those of
ranking cover all from the histories to the metrics (RecBole, ours) or to the lists (RecTools). Batch size and dropout
are each library's own.

Sessions are short: at least four events to learn from, about seven, with popularity that falls with rank^-0.9 and six
of ten events following a transition that their item has. RecBole pads every target's history to 50, RecTools every
session (to 100 by default), ours a batch to its longest: with long histories the ratios are smaller.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST, leave_one_out
from modalrec.evaluation.metrics import measure
from modalrec.evaluation.ranking import rank
from modalrec.recommenders import ItemSpace
from modalrec.recommenders.sasrec import SASRec, SASRecConfig
from modalrec.run import Run
from modalrec.training.loop import TrainingConfig, fit
from modalrec.training.windows import PAD
from tests.benchmarks._sequential_peers import HEADS, HIDDEN, HISTORY, LAYERS, LIST, MEASURED, NEGATIVES
from tests.benchmarks._sessions import drawn_sessions

ROUNDS = 3
SESSIONS, LEAST, MEAN, MOST = 12_000, 4, 7.07, 50
ITEMS = 32_500
"""Of the generator; fewer occur."""
OURS = {"ours SASRec, softmax": "softmax", "ours SASRec, sampled softmax": "sampled_softmax"}
"""And their losses; a peer is compared with the one whose name ends like its own."""


class Measured(NamedTuple):
    """What one model did in one round."""

    targets: int
    seconds: float
    first_loss: float
    last_loss: float
    targets_per_epoch: int
    users: int
    ranking_seconds: float

    @property
    def rate(self) -> float:
        """Targets learnt from per CPU-second."""
        return self.targets / self.seconds

    @property
    def ranking_rate(self) -> float:
        """Users ranked per CPU-second."""
        return self.users / self.ranking_seconds


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks sequential")
    parser.add_argument("--peers", metavar="DIR", default=os.environ.get("PEERS"), help="venv of RecBole and RecTools")
    peers = parser.parse_args(argv).peers
    torch.set_num_threads(1)
    sequences = sessions()
    train = sequences.train()
    print(
        f"{train.n_users:,} sessions, {len(train.items):,} events to learn from, {train.n_items:,} items; one thread, "
        f"per CPU-second, medians of {ROUNDS} interleaved rounds"
    )
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, Callable[[], Measured]] = {name: partial(ours, sequences, loss) for name, loss in OURS.items()}
        if peers:
            write(sequences, Path(folder))
            per_epoch = len(train.items) - train.n_users
            sides |= {name: partial(peer, Path(peers).resolve(), name, Path(folder), per_epoch) for name in MEASURED}
        else:
            print("without --peers DIR, an environment with RecBole and RecTools, ours is measured alone")
        rank_once(sequences)  # compiles
        rounds = [{name: side() for name, side in sides.items()} for _ in range(ROUNDS)]
    show(rounds)


def show(rounds: Sequence[dict[str, Measured]]) -> None:
    """The medians, and how many times ours with the same loss is faster."""
    head = f"{'':<34}{'targets/s':>9} {'ours is':>7}  {'rounds':<13}{'users/s':>7} {'ours is':>7}"
    print(f"{head}  loss, first to last step")
    for name in rounds[0]:
        ours_name = next(own for own in OURS if own.partition(",")[2] == name.partition(",")[2])
        found, base = [of[name] for of in rounds], [of[ours_name] for of in rounds]
        faster = [mine.rate / one.rate for mine, one in zip(base, found, strict=True)]
        ranking = [mine.ranking_rate / one.ranking_rate for mine, one in zip(base, found, strict=True)]
        print(
            f"{name:<34}{statistics.median(one.rate for one in found):>9,.0f} {statistics.median(faster):>6.1f}x  "
            f"{f'{min(faster):.1f} - {max(faster):.1f}':<13}"
            f"{statistics.median(one.ranking_rate for one in found):>7,.0f} {statistics.median(ranking):>6.1f}x  "
            f"{found[0].first_loss:.2f} to {found[0].last_loss:.2f} after {found[0].targets:,} targets"
        )


def sessions(seed: int = 0) -> Sequences:
    """Generated sessions of items that occur in the part to learn from, two more events each for choice and test."""
    rng = np.random.default_rng(seed)
    items, offsets = drawn_sessions(
        rng, ITEMS, lambda: 2 + np.minimum(LEAST - 1 + rng.geometric(1 / (MEAN - LEAST + 1), SESSIONS), MOST)
    )
    split = leave_one_out(np.repeat(np.arange(SESSIONS, dtype=np.int32), np.diff(offsets)))
    known = np.unique(items[split == 0])
    strange = ~np.isin(items, known)
    items[strange] = rng.choice(known, int(strange.sum()))
    return Sequences(np.searchsorted(known, items).astype(np.int32), offsets, split, len(known), "leave_one_out")


def write(sequences: Sequences, folder: Path) -> None:
    """The sessions as RecBole reads them; the time is the place in the session."""
    users = np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))
    places = np.arange(len(users)) - sequences.offsets[users]
    (folder / "sessions").mkdir()
    np.savetxt(
        folder / "sessions" / "sessions.inter",
        np.stack([users, sequences.items, places], axis=1),
        fmt="%d",
        delimiter="\t",
        header="user_id:token\titem_id:token\ttimestamp:float",
        comments="",
    )


def ours(sequences: Sequences, loss: str) -> Measured:
    """An epoch of the training loop, and the evaluator."""
    model = recommender(sequences, loss)
    settings = TrainingConfig.model_validate({**model.training_defaults, "epochs": 1, "schedule": "constant"})
    train = sequences.train()
    batches = model.batches(train, settings.batch_size, 0, augment=False)
    losses, counts = [], []
    plain = model.loss

    def counted(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        found = plain(batch)
        losses.append(found["loss"].item())
        counts.append(int((batch[:, 1:] != PAD).sum()))
        return found

    model.loss = counted  # type: ignore[method-assign]
    begin = time.process_time()
    fit(model, batches, config=settings, run=Run("bench", device="cpu", quiet=True), fingerprint="sequential")
    seconds = time.process_time() - begin
    begin = time.process_time()
    users = rank_once(sequences, model)
    ranking_seconds = time.process_time() - begin
    per_epoch = len(train.items) - train.n_users
    if sum(counts) != per_epoch:
        raise SystemExit(f"{sum(counts)} targets in an epoch, not {per_epoch}")
    return Measured(sum(counts), seconds, losses[0], losses[-1], per_epoch, users, ranking_seconds)


def recommender(sequences: Sequences, loss: str) -> SASRec:
    """An untrained model of the measured size."""
    torch.manual_seed(0)
    names = [str(item) for item in range(sequences.n_items)]
    config = SASRecConfig.model_validate(
        {"width": HIDDEN, "layers": LAYERS, "heads": HEADS, "history": HISTORY, "loss": loss, "n_sample": NEGATIVES}
    )
    return SASRec(config, ItemSpace(names, names))


def rank_once(sequences: Sequences, model: SASRec | None = None) -> int:
    """Ranks the last event of every session, with its metrics; the number of sessions."""
    model = (model or recommender(sequences, "softmax")).eval()
    run = Run("evaluate", device="cpu", quiet=True)
    ranking = rank(model, sequences, sequences.targets(TEST), mask_seen=False, k=LIST, run=run, exhaustive=True)
    measure(ranking, (10, LIST))
    return len(ranking)


def peer(environment: Path, name: str, folder: Path, per_epoch: int) -> Measured:
    """The same of a library in its own environment."""
    script = Path(__file__).with_name("_sequential_peers.py")
    command = [environment / "bin" / "python", script, name, folder]
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: {' '.join(map(str, command))} failed:\n{done.stderr}")
    found = Measured(**json.loads(done.stdout.splitlines()[-1]))
    if found.targets_per_epoch != per_epoch:
        raise SystemExit(f"{name}: {found.targets_per_epoch} targets in an epoch, not {per_epoch}")
    return found
