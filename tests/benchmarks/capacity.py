"""What a run needs at other sizes: costs of each stage by item, event and epoch are measured, the rest is multiplied.

`measured` runs the stages at two sizes on one thread and takes the slope of CPU-seconds (`time.process_time`), so that
what a stage costs whatever the size drops out. What `fuse` and `quantize` cost, and the memory that they hold at most
(without what the system keeps of files for them and can take back), are slopes of processes with many items; the memory
of the others, and storage, follow from the shapes of what is kept.
GPU-hours are extrapolated: arithmetic at what one core was measured to do, moved to a GPU that sustains `GPU_FLOPS`.
No GPU was used.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from modalrec.artifacts import write_artifact
from modalrec.artifacts.embeddings import ROWS, EmbeddingsWriter
from modalrec.config import Config, load_preset, resolve
from modalrec.run import Run
from modalrec.stages import load_stage
from tests.raw import write_tables

INTERACTIONS, ITEMS = (10**6, 10**8, 10**9), (10**5, 10**7, 10**8)
EVENTS_PER_USER, EPOCHS, QUANTIZER_EPOCHS, TESTED_USERS = 20, 10, 20, 100_000
TEXT_BYTES, PICTURE_BYTES, EVENT_BYTES = 400, 15_000, 12
TEXT_WIDTH, PICTURE_WIDTH = 384, 1280
PICTURE = 1 / 60
"""EfficientNet-Lite0 on pictures of 256 px, as `tests/benchmarks/encoding.py` measures it."""
MANY_ITEMS = (70_000, 110_000)
"""More than a quantizer starts from, and than some batches of a stage that takes them one after the other."""
NARROW, MOST_ITEMS = 32, (100_000, 400_000)
"""Vectors so short, and so many of them, that what a quantizer starts from is not what it holds at most."""
GPU_FLOPS = 30e12
"""What an L4 sustains in bfloat16 where it is fed well: a quarter of its data sheet's 121e12. Assumed, not measured."""
WORDS = ("red", "steel", "kettle", "quiet", "motor", "garden", "light", "paper", "travel", "cup", "for", "with", "and")


@dataclass(frozen=True)
class Costs:
    """CPU-seconds of one thread, each for one of its unit.

    Attributes:
        event: Reading an interaction.
        text: Encoding an item's text, of 40 words.
        picture: Encoding a picture.
        fused: Joining an item's vectors.
        learnt: Learning from an item in an epoch of the quantizer, and coding it.
        trained: Learning from an event in an epoch of the recommender.
        ranked: Scoring an item for a user.
        flops: Floating-point operations of a core, in a second of a matrix product.
        process: Bytes that a process holds whatever the size, what a quantizer starts from among them.
        fuse_bytes: Bytes of memory for an item while its vectors are joined.
        quantize_bytes: Bytes of memory for an item while the quantizer learns.
    """

    event: float
    text: float
    picture: float
    fused: float
    learnt: float
    trained: float
    ranked: float
    flops: float
    process: float
    fuse_bytes: float
    quantize_bytes: float


@dataclass(frozen=True)
class Need:
    """What a stage needs: core-hours, GPU-hours where it uses one, GiB of memory in a process, GiB that it stores."""

    core_hours: float
    gpu_hours: float | None
    memory: float
    stored: float


def main(argv: Sequence[str] = ()) -> None:
    """Measures, and prints the page as Markdown."""
    torch.set_num_threads(1)
    print(page(measured()))


def page(costs: Costs) -> str:
    """Costs, and a table for each number of interactions and items."""
    lines = ["| measured here, one thread | unit | |", "|---|---|---|"]
    lines += [
        f"| {name} | {unit_of(name)} | {value / UNITS[unit_of(name)]:.3g} |" for name, value in vars(costs).items()
    ]
    largest = needs(costs, INTERACTIONS[-1], ITEMS[-1])
    longest = max(need.gpu_hours or 0.0 for need in largest.values())
    lines += [
        "",
        f"A GPU is taken to do {GPU_FLOPS / 1e12:.0f} TFLOP/s. One is then enough for every stage: at the largest size "
        f"none takes it for more than {short(longest)} hours.",
    ]
    for interactions in INTERACTIONS:
        for items in ITEMS:
            lines += ["", f"**{number(interactions)} interactions, {number(items)} items**", ""]
            lines += ["| stage | core-hours | GPU-hours | memory, GiB | stored, GiB |", "|---|---|---|---|---|"]
            for stage, need in needs(costs, interactions, items).items():
                gpu = "-" if need.gpu_hours is None else short(need.gpu_hours)
                lines.append(
                    f"| {stage} | {short(need.core_hours)} | {gpu} | {short(need.memory)} | {short(need.stored)} |"
                )
    return "\n".join(lines)


UNITS = {"CPU-microseconds": 1e-6, "GFLOP/s": 1e9, "bytes": 1.0}


def unit_of(name: str) -> str:
    """What a cost is printed in."""
    if name == "flops":
        return "GFLOP/s"
    return "bytes" if name == "process" or name.endswith("_bytes") else "CPU-microseconds"


def costs_of(text: str) -> Costs:
    """The costs that a page was computed from."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    named = {
        name: float(value) * UNITS[unit]
        for name, unit, value in (row for row in rows if len(row) == 3)
        if unit in UNITS
    }
    return Costs(**named)


def needs(costs: Costs, interactions: int, items: int) -> dict[str, Need]:
    """From stage to need, with semantic IDs: a table of item vectors would add 16 x width bytes an item to training."""
    hour, gib = 3600.0, 2.0**30
    gpu = costs.flops / GPU_FLOPS
    vectors = 4.0 * (TEXT_WIDTH + PICTURE_WIDTH)
    users = min(TESTED_USERS, interactions // EVENTS_PER_USER)

    def on_gpu(seconds: float, memory: float, stored: float) -> Need:
        return Need(seconds / hour, seconds * gpu / hour, (costs.process + memory) / gib, stored / gib)

    def on_cpu(seconds: float, memory: float, stored: float) -> Need:
        return Need(seconds / hour, None, (costs.process + memory) / gib, stored / gib)

    contents = items * (TEXT_BYTES + PICTURE_BYTES)
    return {
        "ingest": on_cpu(
            interactions * costs.event, 4 * EVENT_BYTES * interactions, EVENT_BYTES * interactions + contents
        ),
        "embed_text": on_gpu(items * costs.text, 150 * items, 4 * TEXT_WIDTH * items),
        "embed_image": on_gpu(items * costs.picture, 150 * items, 4 * PICTURE_WIDTH * items),
        "fuse": on_cpu(items * costs.fused, items * costs.fuse_bytes, vectors * items),
        "quantize": on_gpu(items * QUANTIZER_EPOCHS * costs.learnt, items * costs.quantize_bytes, 16 * items),
        "finetune": on_gpu(interactions * EPOCHS * costs.trained, 8 * interactions + 16 * items, 50e6),
        "evaluate": on_cpu(users * items * costs.ranked, 8 * interactions + 256 * items, 200 * users),
    }


def measured() -> Costs:
    """Runs the stages at two sizes each; costs have the three digits that the page shows."""
    preset = load_preset("laptop")
    with tempfile.TemporaryDirectory() as temporary:
        # The first one pays for what is loaded and compiled once, and is not looked at.
        _, small, large = chains = [Chain(Path(temporary) / str(items), preset, items) for items in (100, 200, 800)]
        for chain in chains:
            chain.run()
        per = {name: (large.seconds[name] - small.seconds[name]) for name in large.seconds}
    items, events, users = (large.items - small.items), (large.events - small.events), (large.users - small.users)
    pairs = large.users * large.items - small.users * small.items
    assert users > 0
    fused = held("fuse", (TEXT_WIDTH, PICTURE_WIDTH), MANY_ITEMS)
    learnt = held("quantize", (TEXT_WIDTH + PICTURE_WIDTH,), MANY_ITEMS)
    quantized = held("quantize", (NARROW,), MOST_ITEMS)
    found = Costs(
        event=per["ingest"] / events,
        text=per["embed_text"] / items,
        picture=PICTURE,
        fused=fused.seconds,
        learnt=learnt.seconds,
        trained=per["finetune"] / (events * Chain.epochs),
        ranked=per["evaluate"] / pairs,
        flops=core_flops(),
        process=max(fused.process, learnt.process),
        fuse_bytes=fused.each,
        quantize_bytes=quantized.each,
    )
    return Costs(**{name: float(f"{value:.3g}") for name, value in vars(found).items()})


class Held(NamedTuple):
    """What a stage costs: bytes of memory whatever the size and for each item, and CPU-seconds for each item."""

    process: float
    each: float
    seconds: float


def held(stage: str, widths: Sequence[int], counts: tuple[int, int]) -> Held:
    """Of processes of the stage, with so many items and vectors so long; the quantizer learns for one epoch."""
    edges = ("embeddings",) if stage == "quantize" else ("text_embeddings", "image_embeddings")
    output, options = ("codes", ["--set=training.epochs=1"]) if stage == "quantize" else ("embeddings", [])
    peaks, seconds = [], []
    for items in counts:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for edge, width in zip(edges, widths, strict=True):
                write_vectors(folder / edge, items, width)
            given = [f"--{edge.replace('_', '-')}={folder / edge}" for edge in edges]
            command = [sys.executable, "-m", "modalrec", stage, "--preset=laptop", "--device=cpu", "--quiet"]
            words = [*command, *options, *given, f"--{output}={folder / 'made'}"]
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            peak, ended = 0.0, 0
            while not ended:
                peak = max(peak, own_memory(process.pid))
                time.sleep(0.02)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if status:
                raise RuntimeError(f"{stage} of {items} items failed")
            peaks.append(peak)
            seconds.append(usage.ru_utime + usage.ru_stime)
    more = counts[1] - counts[0]
    each = max(peaks[1] - peaks[0], 0.0) / more
    return Held(peaks[0] - each * counts[0], each, (seconds[1] - seconds[0]) / more)


def own_memory(pid: int) -> float:
    """Bytes that a process holds for itself; what the system keeps of files for it can be taken back."""
    found = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon")]
    return 1024.0 * int(found[0].split()[1]) if found else 0.0


def write_vectors(folder: Path, items: int, width: int) -> None:
    """Made-up vectors of so many items."""
    rng = np.random.default_rng(0)
    with (
        write_artifact(folder, "embeddings", stage="fuse", config=Config(), seed=0, inputs={}) as work,
        EmbeddingsWriter(work.folder, width) as writer,
    ):
        for begin in range(0, items, ROWS):
            rows = range(begin, min(begin + ROWS, items))
            vectors_RV = rng.standard_normal((len(rows), width), np.float32)
            writer.write([f"i{row}" for row in rows], np.ones(len(rows), bool), vectors_RV)


class Chain:
    """The stages on made-up tables of a size, timed."""

    epochs = 2

    def __init__(self, folder: Path, preset: Mapping[str, Any], items: int) -> None:
        self.folder, self.preset, self.items = folder, preset, items
        self.users = 2 * items
        self.events = self.users * EVENTS_PER_USER
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        """Runs them in order."""
        self._write()
        edges = {
            name: self.folder / name
            for name in ("dataset", "text_embeddings", "embeddings", "codes", "model", "evaluation")
        }
        epochs = {"training": {"epochs": self.epochs, "patience": 0}}
        splits = {"splits": ["leave_one_out"], "min_user_events": 3, "min_item_events": 1}
        self._stage("ingest", splits, source=self.folder / "raw", dataset=edges["dataset"])
        self._stage("embed_text", {}, dataset=edges["dataset"], text_embeddings=edges["text_embeddings"])
        self._stage("fuse", {}, text_embeddings=edges["text_embeddings"], embeddings=edges["embeddings"])
        self._stage("quantize", epochs, embeddings=edges["embeddings"], codes=edges["codes"])
        known = {name: edges[name] for name in ("dataset", "codes", "embeddings")}
        self._stage("finetune", epochs | {"validation_users": 1}, **known, model=edges["model"])
        self._stage(
            "evaluate", {"bootstrap_samples": 100}, **known, model=edges["model"], evaluation=edges["evaluation"]
        )

    def _write(self) -> None:
        rng = np.random.default_rng(0)
        texts = [" ".join(rng.choice(WORDS, 40)) + f" {item}" for item in range(self.items)]
        rows = [f"f{item},Thing {item},{text},Things,2000" for item, text in enumerate(texts)]
        events = [
            f"{user},f{item},{1_600_000_000 + 60 * place},5"
            for user in range(self.users)
            for place, item in enumerate(rng.integers(self.items, size=EVENTS_PER_USER))
        ]
        heads = ("item_id,title,text,categories,year", "user_id,item_id,timestamp,rating")
        write_tables(
            self.folder / "raw",
            *("\n".join([head, *body]) + "\n" for head, body in zip(heads, (rows, events), strict=True)),
        )

    def _stage(self, name: str, settings: Mapping[str, Any], **edges: Path) -> None:
        function, config = load_stage(name)
        resolved = resolve(config, self.preset.get(name) or {}, settings)
        begin = time.process_time()
        function(**edges, config=resolved, run=Run(name, seed=0, device="cpu", quiet=True))
        self.seconds[name] = time.process_time() - begin


def core_flops() -> float:
    """Of a matrix product in float32, the best of three."""
    a = torch.randn(1024, 1024)

    def once(work: Callable[[], Any]) -> float:
        begin = time.process_time()
        work()
        return 2 * 1024**3 / (time.process_time() - begin)

    return max(once(lambda: a @ a) for _ in range(4))


def number(value: int) -> str:
    """1e8 as 100 M."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= unit:
            return f"{value / unit:g} {name}"
    return str(value)


def short(value: float) -> str:
    """Two digits that count."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"
