"""Full-catalogue ranks: ours beside the way of GRU4Rec's authors, interleaved in one process, one thread each.

The authors' way is what hidasib/GRU4Rec_PyTorch_Official does with a batch of states: the whole matrix of scores, plus
biases, transposed, then one comparison and sum per tie mode. Its conservative mode alone is one comparison; greater and
equal counts, from which every mode follows, are two. Ours gives both counts and the 20 best items, from the same
vectors. CPU-seconds by `time.process_time`, the kernel's included, which hands the authors' way its large matrices anew
for each batch. The model is left out of both: states are drawn, not computed.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST
from modalrec.evaluation.ranking import Ranking, rank
from modalrec.recommenders import Scorer
from modalrec.run import Run

WIDTH, LIST, ROUNDS = 224, 20, 5
SETTINGS = ((200_000, 512), (1_000_000, 128))
"""Items and batch size; a million items times 512 floats would be 2 GB for the authors' way, before its comparisons."""


class Product(Scorer):
    """Scores that are one matrix product, with a drawn state for each user."""

    def __init__(self, n_users: int, n_items: int, width: int) -> None:
        rng = np.random.default_rng(0)
        self.states_UD = rng.standard_normal((n_users, width), np.float32)
        self.vectors_ND = rng.standard_normal((n_items, width), np.float32)

    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """A user's history is one item whose index is the user's number."""
        return self.states_UD[[history[0] for history in histories]]

    def score(self, prepared: NDArray[np.float32], begin: int, end: int) -> NDArray[np.float32]:
        return prepared @ self.vectors_ND[begin:end].T

    def score_into(self, prepared: NDArray[np.float32], begin: int, end: int, out: NDArray[np.float32]) -> None:
        np.matmul(prepared, self.vectors_ND[begin:end].T, out=out)

    def score_of(self, prepared: NDArray[np.float32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.einsum("bd,bd->b", prepared, self.vectors_ND[items])
        return found


class Counts(NamedTuple):
    """Per target, what scores greater, and what scores greater or equal, the target among them."""

    greater: NDArray[np.int64]
    least: NDArray[np.int64]


def authors_way(
    states_BD: torch.Tensor, vectors_ND: torch.Tensor, bias_N: torch.Tensor, targets_B: torch.Tensor, both: bool
) -> Counts:
    """Ranks of a batch from the full score matrix."""
    scores_NB = (torch.mm(states_BD, vectors_ND.T) + bias_N).T
    target_B = torch.diag(scores_NB[targets_B])
    least_B = (scores_NB >= target_B).sum(dim=0)
    greater_B = (scores_NB > target_B).sum(dim=0) if both else least_B
    return Counts(greater_B.numpy(), least_B.numpy())


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    print(f"full-catalogue ranks, {WIDTH} dimensions, one thread, CPU-ms per batch, median of {ROUNDS} rounds")
    print(f"{'items':>9} {'batch':>5} {'authors, 1 mode':>15} {'all modes':>9} {'ours':>6} {'ratios':>11} same ranks")
    for n_items, batch_size in SETTINGS:
        one, both, ours, same = compare(n_items, batch_size)
        ratios = f"{one / ours:.1f} / {both / ours:.1f}"
        print(
            f"{n_items:>9,} {batch_size:>5} {1e3 * one:>15.0f} {1e3 * both:>9.0f} {1e3 * ours:>6.0f} {ratios:>11} "
            f"{'yes' if same else 'NO'}",
            flush=True,
        )


def compare(n_items: int, batch_size: int) -> tuple[float, float, float, bool]:
    """CPU-seconds of the authors' way with one comparison and with two, of ours, and whether the ranks agree."""
    scorer = Product(batch_size, n_items, WIDTH + 1)
    scorer.states_UD[:, -1] = 1  # the last column of the vectors is the bias
    rng = np.random.default_rng(1)
    histories = np.stack([np.arange(batch_size), rng.integers(0, n_items, batch_size)], 1).astype(np.int32)
    offsets = 2 * np.arange(batch_size + 1, dtype=np.int64)
    split = np.full(2 * batch_size, TEST, np.int8)
    sequences = Sequences(histories.ravel(), offsets, split, n_items, "sessions")
    targets = sequences.targets(TEST)
    states = torch.from_numpy(scorer.states_UD[:, :-1].copy())
    vectors, bias = (torch.from_numpy(part.copy()) for part in (scorer.vectors_ND[:, :-1], scorer.vectors_ND[:, -1]))
    items = torch.from_numpy(targets.items.astype(np.int64))
    run = Run("evaluate", quiet=True)

    def ours() -> Ranking:
        return rank(scorer, sequences, targets, mask_seen=False, k=LIST, run=run, batch_size=batch_size)

    ways: list[Callable[[], Counts | Ranking]] = [
        lambda: authors_way(states, vectors, bias, items, both=False),
        lambda: authors_way(states, vectors, bias, items, both=True),
        ours,
    ]
    seconds: list[list[float]] = [[], [], []]
    for round_ in range(ROUNDS + 1):
        for way, spent in zip(ways, seconds, strict=True):
            begin = time.process_time()
            way()
            if round_:  # the first round compiles and touches memory
                spent.append(time.process_time() - begin)
    one, both, mine = map(statistics.median, seconds)
    return one, both, mine, agree(ours(), authors_way(states, vectors, bias, items, both=True), scorer)


def agree(ranking: Ranking, counts: Counts, scorer: Product) -> bool:
    """Equal counts; two matrix products round differently, so where they differ the scores must be equal but for that.

    A rank that differs by d must have d items within rounding of the target.
    """
    wrong = np.flatnonzero((ranking.greater != counts.greater) | (ranking.equal != counts.least - counts.greater - 1))
    for row in wrong:
        scores_N = scorer.vectors_ND.astype(np.float64) @ scorer.states_UD[ranking.users[row]]
        target = scores_N[ranking.targets[row]]
        close = int((np.abs(scores_N - target) < 1e-6 * np.abs(scores_N).max()).sum()) - 1
        if abs(int(ranking.greater[row] - counts.greater[row])) > close:
            return False
    return True


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # Threads of matrix products are fixed when the libraries are loaded.
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.benchmarks.ranking"], os.environ | one_thread)  # noqa: S606
    main(sys.argv[1:])
