"""Reading labelled rows with histories: rows a CPU-second, and memory while their number grows.

Rows of MicroLens' published shape are made up and written as a dataset, row group by row group; a process for each size
then reads them, takes from them what a model may know, and builds one epoch of training batches, as a training does.
What it says is the most memory of its own, without the pages of files that the system takes back when it needs them.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modalrec.artifacts import write_artifact
from modalrec.artifacts.schemas import INTERACTIONS, ITEMS, USERS
from modalrec.config import Config
from modalrec.data.rows import RowsConfig, load_rows
from modalrec.data.splits import TRAIN
from modalrec.stages._rows import row_space
from modalrec.training.rows import RowBatches

SIZES = (1_000_000, 3_000_000, 12_000_000)
USER_COUNT, ITEM_COUNT, HISTORY, MEAN, BATCH, GROUP = 1_000_000, 91_717, 64, 22, 1024, 50_000


def main(argv: Sequence[str] = ()) -> None:
    """Prints a row for each size."""
    print("| rows | read, rows a CPU-second | batches, rows a CPU-second | most memory of its own, MiB (before) |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=os.environ.get("MODALREC_BENCH_TMP")) as place:
        for size in SIZES:
            folder = write(Path(place) / str(size), size)
            command = [sys.executable, "-m", "tests.benchmarks.row_loading", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            read, batches = (size / found[name] for name in ("read", "batches"))
            print(
                f"| {size:,} | {read:,.0f} | {batches:,.0f} | {found['most']:.0f} ({found['before']:.0f}) |", flush=True
            )


def write(folder: Path, size: int) -> Path:
    """Makes up a dataset with given histories."""
    rng = np.random.default_rng(0)
    extra = [("label", pa.int8()), ("history", pa.list_(pa.int32())), ("split_given", pa.int8())]
    schema = pa.schema([*INTERACTIONS, *(pa.field(name, kind) for name, kind in extra)])
    with write_artifact(folder, "dataset", stage="ingest", config=Config(), seed=0, inputs={}) as work:
        names = [str(item) for item in range(ITEM_COUNT)]
        items = [{"item_id": name, "title": name, "image": "none"} for name in names]
        pq.write_table(pa.Table.from_pylist(items, schema=ITEMS), work.folder / "items.parquet")
        users = pa.table({"user_id": [str(user) for user in range(USER_COUNT)]}, schema=USERS)
        pq.write_table(users, work.folder / "users.parquet")
        with pq.ParquetWriter(work.folder / "interactions.parquet", schema) as writer:
            for begin in range(0, size, GROUP):
                count = min(GROUP, size - begin)
                lengths = np.minimum(rng.geometric(1 / MEAN, count), HISTORY)
                offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
                past = rng.integers(0, ITEM_COUNT, offsets[-1], dtype=np.int32)
                columns = {
                    "user": (np.arange(begin, begin + count) * USER_COUNT // size).astype(np.int32),
                    "item": rng.integers(0, ITEM_COUNT, count, dtype=np.int32),
                    "position": np.zeros(count, np.int32),
                    "label": rng.integers(0, 2, count, dtype=np.int8),
                    "history": pa.ListArray.from_arrays(offsets, past),
                    "split_given": np.zeros(count, np.int8),
                }
                filled = {field.name: columns.get(field.name, pa.nulls(count, field.type)) for field in schema}
                writer.write_table(pa.table(filled, schema=schema))
    return folder


def measure(folder: Path) -> None:
    """Prints what reading and batching take, as JSON."""
    most = Most()
    before, start = most.kib, time.process_time()
    rows = load_rows(folder, "given", RowsConfig())
    row_space(folder, rows, {})
    read = time.process_time() - start
    start = time.process_time()
    batches = RowBatches(rows, rows.of(TRAIN, "click"), BATCH, HISTORY, "click", 0)
    for step, indices in enumerate(batches.plan(0)):
        batches.build(0, step, indices)
    built = time.process_time() - start
    print(json.dumps({"read": read, "batches": built, "before": before / 1024, "most": most.kib / 1024}))


class Most(threading.Thread):
    """Watches the memory that is the process's own."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.kib = self._now()
        self.start()

    def run(self) -> None:
        """Looks a hundred times a second."""
        while True:
            self.kib = max(self.kib, self._now())
            time.sleep(0.01)

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
