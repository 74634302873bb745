"""The 20 best of all items, exactly: ours beside faiss, the same vectors and codes, interleaved, one thread each.

Vectors: the evaluator's scan of a dense scorer, as SASRec is, which finds a target's rank too, beside `IndexFlatIP`: as
it comes, and with `distance_compute_blas_threshold` at 1. The second is what to compare with: 1.15.1 comes with 128000,
which keeps these batches from its faster way.
Codes: `encoder_retrieve`'s lists beside `IndexPQ` with the same codes, and with heads and code embeddings as queries
and centroids. That ranks alike, since log-softmax subtracts the same number from all items. Also beside the definition
as RPG's authors compute it, one gather for a batch, and the evaluator's scan. Ours includes the encoder; all weights
are drawn. CPU-seconds by `time.process_time`. Faiss runs in a process of its own, of the environment given by
--faiss DIR or FAISS, or else of this one, and has its index built before a clock starts.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from modalrec.config import resolve
from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST
from modalrec.evaluation.ranking import rank
from modalrec.recommenders import ItemSpace, Scorer
from modalrec.recommenders._transformer import latest
from modalrec.recommenders.encoder_retrieve import EncoderRetrieve, EncoderRetrieveConfig
from modalrec.run import Run
from tests.benchmarks.ranking import Product

BATCH, LIST, ROUNDS = 256, 20, 5
DENSE = ((200_000, 64), (200_000, 128), (1_000_000, 64), (1_000_000, 128))
ITEMS, LEVELS, SIZE = 1_000_000, 32, 256
GATHERED = 4
"""Histories that the definition is computed for: it holds history x items x levels floats."""

FAISS = """
import sys, time
import faiss, numpy as np
faiss.omp_set_num_threads(1)
folder, kind = sys.argv[1:]
queries, vectors = (np.load(f"{folder}/{name}.npy") for name in ("queries", "vectors"))
if kind == "flat":
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
else:
    codes = np.load(f"{folder}/codes.npy")
    index = faiss.IndexPQ(queries.shape[1], codes.shape[1], 8, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(vectors.ravel(), index.pq.centroids)
    faiss.copy_array_to_vector(codes.ravel(), index.codes)
    index.is_trained, index.ntotal = True, len(codes)
as_it_comes = faiss.cvar.distance_compute_blas_threshold
print(faiss.__version__, flush=True)
for line in sys.stdin:
    k, threshold = map(int, line.split())
    faiss.cvar.distance_compute_blas_threshold = threshold or as_it_comes
    begin = time.process_time()
    scores, items = index.search(queries, k)
    spent = time.process_time() - begin
    np.save(f"{folder}/items.npy", items)
    print(spent, flush=True)
"""

Lists = NDArray[np.int64]


class Faiss:
    """An index in a process of its own."""

    def __init__(self, python: str, kind: str, **arrays: NDArray[np.float32] | NDArray[np.uint8]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        for name, array in arrays.items():
            np.save(Path(self._folder.name) / f"{name}.npy", array)
        command = [python, "-c", FAISS, self._folder.name, kind]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._read()

    def search(self, threshold: int = 0) -> tuple[float, Lists]:
        """CPU-seconds and the lists; a threshold of 1 makes faiss use BLAS, 0 is its own default."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{LIST} {threshold}\n")
        self._process.stdin.flush()
        return float(self._read()), np.load(Path(self._folder.name) / "items.npy")

    def close(self) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


Way = Callable[[], tuple[float, Lists]]


def main(argv: Sequence[str] = ()) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks retrieval")
    parser.add_argument("--faiss", metavar="DIR", default=os.environ.get("FAISS"), help="venv with faiss-cpu")
    given = parser.parse_args(argv).faiss
    python: str | None = str(Path(given) / "bin" / "python") if given else sys.executable
    if subprocess.run([str(python), "-c", "import faiss"], stderr=subprocess.DEVNULL).returncode:
        print(f"{python} has no faiss: ours is measured alone; give --faiss DIR, an environment with faiss-cpu")
        python = None
    torch.set_num_threads(1)
    print(f"the {LIST} best of all items for {BATCH} histories, one thread, CPU-ms per history, of {ROUNDS} rounds")
    for n_items, width in DENSE:
        dense(n_items, width, python)
    codes(python)


def dense(n_items: int, width: int, python: str | None) -> None:
    """The scan of a matrix product beside the flat index."""
    scorer = Product(BATCH, n_items, width)
    ways: dict[str, Way] = {"evaluator's scan": timed(lambda: scanned(scorer, n_items))}
    index = python and Faiss(python, "flat", queries=scorer.states_UD, vectors=scorer.vectors_ND)
    if index:
        ways[f"faiss {index.version} IndexFlatIP"] = index.search
        ways["the same, BLAS threshold 1"] = partial(index.search, threshold=1)
    print(f"\n{n_items:,} vectors of {width}, {scorer.vectors_ND.nbytes / 2**20:,.0f} MB")
    compare(ways, {})
    if index:
        index.close()


def codes(python: str | None) -> None:
    """Look-ups in tables beside faiss's, the definition and the scan."""
    rng = np.random.default_rng(0)
    numbers: list[str] = list(map(str, range(ITEMS)))
    space = ItemSpace(numbers, numbers, rng.integers(0, SIZE, (ITEMS, LEVELS)).astype(np.int32), (SIZE,) * LEVELS)
    torch.manual_seed(0)
    model = EncoderRetrieve(resolve(EncoderRetrieveConfig, {}), space).eval()
    histories = [rng.integers(0, ITEMS, 20).astype(np.int32) for _ in range(BATCH)]
    ways: dict[str, Way] = {
        "lists": timed(lambda: model.recommend(histories, LIST, mask_seen=False).items),
        "lists, one history at a time": timed(lambda: model.recommend(histories[:1], LIST, mask_seen=False).items),
        "evaluator's scan": timed(lambda: scanned(model, ITEMS, histories)),
        "the definition, by one gather": timed(lambda: gathered(model, histories[:GATHERED])),
    }
    index = None
    if python:
        with torch.inference_mode():
            items_BT, last_B = latest(histories, model.config.history, torch.device("cpu"))
            compared = list(model.compared(model.encode(items_BT)[torch.arange(BATCH), last_B]))
            queries = torch.cat([heads_BD for heads_BD, _ in compared], dim=1).numpy()
            centroids = torch.stack([codes_VD for _, codes_VD in compared]).numpy()
        index = Faiss(python, "pq", queries=queries, vectors=centroids, codes=model.codes.codes_NL.numpy())
        ways[f"faiss {index.version} IndexPQ"] = index.search
    held = sum(table.numel() * table.element_size() for table in model.prepare(histories).tables) / 2**20
    size = model.codes.codes_NL.numpy().nbytes / 2**20
    print(f"\n{ITEMS:,} items of {LEVELS} codes of {SIZE}, {size:,.0f} MB, and {held:,.0f} MB of tables for a batch")
    compare(ways, {"lists, one history at a time": 1, "the definition, by one gather": GATHERED})
    if index:
        index.close()


def compare(ways: dict[str, Way], batches: dict[str, int]) -> None:
    """Runs the ways in turn and prints medians, the ratio to the first one, and how many items are listed alike."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Lists] = {}
    for round_ in range(ROUNDS + 1):
        for name, way in ways.items():
            seconds, found[name] = way()
            if round_:  # the first round compiles and touches memory
                spent[name].append(1e3 * seconds / batches.get(name, BATCH))
    first = next(iter(ways))
    for name, own in spent.items():
        ratios = [theirs / ours for theirs, ours in zip(own, spent[first], strict=True)]
        both = min(len(found[name]), len(found[first]))
        same = np.mean(found[name][:both] == found[first][:both])
        print(
            f"{name:<32}{statistics.median(own):>9.2f} ms {statistics.median(ratios):>7.2f}x  "
            f"{f'{min(ratios):.2f} - {max(ratios):.2f}':<15} same places {100 * same:.2f} %",
            flush=True,
        )


def timed(way: Callable[[], Lists]) -> Way:
    """With its CPU-seconds."""

    def run() -> tuple[float, Lists]:
        begin = time.process_time()
        found = way()
        return time.process_time() - begin, found

    return run


def scanned(scorer: Scorer, n_items: int, histories: Sequence[NDArray[np.int32]] | None = None) -> Lists:
    """What `rank` lists; each history is followed by a drawn target."""
    own = [np.array([user], np.int32) for user in range(BATCH)] if histories is None else histories
    drawn = np.random.default_rng(1).integers(0, n_items, (BATCH, 1)).astype(np.int32)
    rows = np.concatenate([np.stack(own), drawn], axis=1)
    offsets = rows.shape[1] * np.arange(BATCH + 1, dtype=np.int64)
    sequences = Sequences(rows.ravel(), offsets, np.full(rows.size, TEST, np.int8), n_items, "sessions")
    targets = sequences.targets(TEST)
    last = targets.take(np.flatnonzero(targets.ends == offsets[targets.users + 1] - 1))
    run = Run("evaluate", quiet=True)
    return rank(scorer, sequences, last, mask_seen=False, k=LIST, run=run, batch_size=BATCH, exhaustive=True).top.items


@torch.inference_mode()
def gathered(model: EncoderRetrieve, histories: Sequence[NDArray[np.int32]]) -> Lists:
    """Every item's likelihood by one gather of its codes' log-likelihoods."""
    tables, size = model.prepare(histories)
    logp_BK = torch.cat(tables, dim=1)[:, :size].T.contiguous()
    codes_NL = model.codes(slice(None)).long()
    scores_BN = logp_BK[:, None].expand(-1, len(codes_NL), -1).gather(2, codes_NL.expand(size, -1, -1)).sum(2)
    best: Lists = scores_BN.topk(LIST, dim=1).indices.numpy()
    return best


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # Threads of matrix products are fixed when the libraries are loaded.
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.benchmarks.retrieval", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | one_thread)  # noqa: S606
    main(sys.argv[1:])
