"""What a step of MP4SR's pre-training costs: the batch, not the catalogue; and what pooling costs as published.

Generated catalogues of 20,000 and 200,000 items, ten sentences and fifteen words of a vocabulary of 10,000 an item,
vectors of 384 numbers; batches of 128 histories of ten items. One thread, CPU-seconds, catalogues in turn in one run.
The published code pools the whole catalogue in every step, from dense tensors filled with zeros; its formula is
written out here, and runs on 20,000 items with vectors of 768 numbers, the published length. Takes some two minutes,
4 GB of disk and 4 GB of memory.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modalrec.artifacts.embedding_lists import VectorLists
from modalrec.config import resolve
from modalrec.data.sequences import Sequences
from modalrec.recommenders import ItemSpace
from modalrec.recommenders.mp4sr import MP4SR, MP4SRConfig
from modalrec.training.steps import GradientSteps

SMALL, LARGE = 20_000, 200_000
SENTENCES, WORDS, VOCABULARY = 10, 15, 10_000
LENGTH, PUBLISHED = 384, 768
BATCH, HISTORY = 128, 10
ROUNDS, STEPS = 7, 3


def main(argv: Sequence[str] = ()) -> None:
    """Prints the comparison."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        spaces = {n_items: catalogue(Path(name), n_items, LENGTH) for n_items in (SMALL, LARGE)}
        compare(spaces)
        frozen(catalogue(Path(name), SMALL, PUBLISHED))


def catalogue(folder: Path, n_items: int, length: int) -> ItemSpace:
    """Items with vectors in files, as an artifact's are."""
    rng = np.random.default_rng(0)
    vectors: Any = np.memmap(folder / f"{n_items}-{length}.f32", np.float32, "w+", shape=(n_items * SENTENCES, length))
    for begin in range(0, len(vectors), 50_000):
        vectors[begin : begin + 50_000] = rng.standard_normal((min(50_000, len(vectors) - begin), length), np.float32)
    words = rng.standard_normal((VOCABULARY, length), np.float32)
    chosen = rng.integers(VOCABULARY, size=n_items * WORDS).astype(np.int32)
    text = VectorLists(vectors, np.arange(len(vectors), dtype=np.int32), np.arange(0, len(vectors) + 1, SENTENCES))
    names = [str(item) for item in range(n_items)]
    return ItemSpace(names, names, text=text, image=VectorLists(words, chosen, np.arange(0, len(chosen) + 1, WORDS)))


def trainer(space: ItemSpace, **settings: Any) -> Callable[[], None]:
    """A step of pre-training, each time on another batch."""
    torch.manual_seed(0)
    model, rng = MP4SR(resolve(MP4SRConfig, settings), space).train(), np.random.default_rng(0)
    events = rng.integers(len(space), size=BATCH * (HISTORY + 1) * 64).astype(np.int32)
    offsets = np.arange(0, len(events) + 1, HISTORY + 1)
    train = Sequences(events, offsets, np.zeros(len(events), np.int8), len(space), "leave_one_out")
    batches, steps = model.batches(train, BATCH, 0, augment=True), GradientSteps(model, 0.01, 1.0)
    plan, done = batches.plan(0), 0

    def step() -> None:
        nonlocal done
        steps.step(batches.build(0, done % len(plan), plan[done % len(plan)]), 1e-3)
        done += 1

    step()
    return step


def compare(spaces: dict[int, ItemSpace]) -> None:
    """The same step at both sizes, and how much memory of its own each training takes."""
    steps, own = {}, {}
    for n_items, space in spaces.items():
        before = anonymous()
        steps[n_items] = trainer(space)
        own[n_items] = anonymous() - before
    taken = timed(steps)
    print(f"pre-training, trained pooling, a batch of {BATCH} histories of {HISTORY} items")
    for n_items, seconds in taken.items():
        parameters = n_items * 64 * 4 * 3 / 2**20
        print(
            f"  {n_items:>8,} items: {1000 * statistics.median(seconds):7.1f} ms a step "
            f"({1000 * min(seconds):.1f} to {1000 * max(seconds):.1f}), {own[n_items]:,.0f} MiB of memory, "
            f"{parameters:,.0f} of them IDs and kept vectors; the vectors in files are "
            f"{(len(spaces[n_items]) * SENTENCES) * LENGTH * 4 / 2**20:,.0f} MiB"
        )
    ratios = [large / small for small, large in zip(taken[SMALL], taken[LARGE], strict=True)]
    print(f"  ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def frozen(space: ItemSpace) -> None:
    """Frozen pooling, done once, beside the published formula in every step."""
    begin = time.process_time()
    step = trainer(space, frozen_pooling=True)
    first = time.process_time() - begin
    assert space.text is not None
    assert space.image is not None
    dense = [torch.zeros(len(space), longest, PUBLISHED) for longest in (SENTENCES, WORDS)]
    for full_NLV, lists in zip(dense, (space.text, space.image), strict=True):
        full_NLV.view(-1, PUBLISHED)[:] = torch.from_numpy(np.ascontiguousarray(lists.vectors_VD[lists.members]))
    networks = [nn.Sequential(nn.Linear(PUBLISHED, 64), nn.Linear(64, 1)) for _ in dense]
    table = nn.Embedding(len(space), PUBLISHED)

    def published() -> None:
        for full_NLV, network in zip(dense, networks, strict=True):
            table.weight.data.copy_(pooled_as_published(full_NLV, network))
        step()

    taken = timed({"ours": step, "published": published}, rounds=3)
    ratios = [theirs / ours for ours, theirs in zip(taken["ours"], taken["published"], strict=True)]
    print(f"frozen pooling, {len(space):,} items; building, pooling once and the first step {first:.1f} s")
    for name, seconds in taken.items():
        print(f"  {name:<10} {1000 * statistics.median(seconds):8.1f} ms a step")
    print(f"  ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


def pooled_as_published(full_NLV: Tensor, network: nn.Module) -> Tensor:
    """Every item's list, filled with zeros, by a softmax over all of it."""
    weights_NL1 = network(full_NLV).softmax(1)
    return (full_NLV * weights_NL1).sum(1)


def timed(steps: dict[Any, Callable[[], None]], rounds: int = ROUNDS) -> dict[Any, list[float]]:
    """CPU-seconds a step, the candidates in turn."""
    taken: dict[Any, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.process_time()
            for _ in range(STEPS):
                step()
            taken[name].append((time.process_time() - begin) / STEPS)
    return taken


def anonymous() -> float:
    """MiB of memory of this process that belong to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


if __name__ == "__main__":
    main()
