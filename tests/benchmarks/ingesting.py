"""Ingest of 25 M made-up ratings of MovieLens's shape, beside plain pandas code for the same dataset, in one run.

Both read ratings.csv and movies.csv, drop exact repeats, keep the 5-core, order each user's ratings by time, split by
time and leave-one-out, and write the same tables (compared value by value); ours also checks every cell, counts what it
drops, digests its inputs and outputs, and composes the texts that encoders read. Each runs in a process of its own,
alternately; CPU-seconds by `time.process_time`, imports and compilation left out, and the peak of the process's memory.

`python -m tests.benchmarks.ingesting [RATINGS]`; MODALREC_BENCH_TMP names a folder for 2 GB of files, by default the
system's for temporary ones.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest
from tests.benchmarks._ratings import RATINGS, write_ratings

ROUNDS = 2
FEW = 200_000
"""Ratings of the warm-up."""
WAYS = ("pandas", "ours")


def plain_pandas(raw: Path, folder: Path) -> None:
    """The dataset's tables, as one would write it without a library."""
    films = pd.read_csv(raw / "movies.csv")
    events = pd.read_csv(raw / "ratings.csv")
    events = events[events["movieId"].isin(films["movieId"])]
    events["user"] = pd.factorize(events["userId"])[0]
    events = events.sort_values(["user", "timestamp"], kind="stable")
    events = events.drop_duplicates(["userId", "movieId", "timestamp", "rating"])
    while True:
        enough = events.groupby("user")["movieId"].transform("size") >= 5
        enough &= events.groupby("movieId")["user"].transform("size") >= 5
        if enough.all():
            break
        events = events[enough]
    films = films[films["movieId"].isin(events["movieId"])].reset_index(drop=True)
    events["item"] = events["movieId"].map(pd.Series(films.index, index=films["movieId"]))
    users = events.drop_duplicates("user")["userId"]
    events["user"] = pd.factorize(events["user"])[0]
    grouped = events.groupby("user")
    events["position"] = grouped.cumcount()
    left, size = grouped.cumcount(ascending=False), grouped["item"].transform("size")
    valid_cut, test_cut = events["timestamp"].sort_values().iloc[[int(len(events) * 0.8), int(len(events) * 0.9)]]
    events["split_temporal"] = (events["timestamp"] >= valid_cut).astype(int) + (events["timestamp"] >= test_cut)
    events["split_leave_one_out"] = np.where(size < 3, 0, np.where(left == 0, 2, np.where(left == 1, 1, 0)))
    kinds = {"user": "int32", "item": "int32", "position": "int32", "timestamp": "int64", "rating": "float32"}
    kinds |= {"split_temporal": "int8", "split_leave_one_out": "int8"}
    events[list(kinds)].astype(kinds).to_parquet(folder / "interactions.parquet", index=False)
    users.astype(str).rename("user_id").to_frame().to_parquet(folder / "users.parquet", index=False)
    parts = films["title"].str.extract(r"^(.*?)\s*\((\d{4})\)\s*$")
    titles = parts[0].fillna(films["title"]).str.replace(r"^(.*), (The|A|An)$", r"\2 \1", regex=True)
    genres = films["genres"].replace("(no genres listed)", "").str.split("|")
    items = {"item_id": films["movieId"].astype(str), "title": titles, "categories": genres, "year": parts[1]}
    pd.DataFrame(items).astype({"year": "Int32"}).to_parquet(folder / "items.parquet", index=False)


def run_one(way: str, raw: Path, folder: Path) -> None:
    """Runs one way and prints its CPU-seconds and its peak memory in MiB."""
    few = raw.with_name("few")
    target = folder / "warm-up"
    for source in (few, raw):
        begin = time.process_time()
        if way == "ours":
            ingest(source, target, config=Config(), run=Run("ingest", quiet=True))
        else:
            target.mkdir(parents=True)
            plain_pandas(source, target)
        spent = time.process_time() - begin
        target = folder / "dataset"
    print(spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def differences(ours: Path, pandas: Path) -> list[str]:
    """The columns of the tables that are not equal."""
    wrong = []
    for name in ("interactions", "users", "items"):
        mine, other = (pq.read_table(folder / f"{name}.parquet") for folder in (ours, pandas))
        wrong += [
            f"{name}.{column}"
            for column in other.column_names
            if not mine[column].combine_chunks().equals(other[column].cast(mine[column].type).combine_chunks())
        ]
    return wrong


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table."""
    if len(argv) == 4:
        run_one(argv[0], Path(argv[1]), Path(argv[2]))
        return
    ratings = int(argv[0]) if argv else RATINGS
    with tempfile.TemporaryDirectory(dir=os.environ.get("MODALREC_BENCH_TMP"), prefix="modalrec-ingest-") as work:
        raw = write_ratings(Path(work) / "raw", ratings)
        write_ratings(Path(work) / "few", min(FEW, ratings))
        print(f"{ratings:,} made-up ratings, {(raw / 'ratings.csv').stat().st_size / 1e6:,.0f} MB as CSV", flush=True)
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        peak = dict.fromkeys(WAYS, 0.0)
        for round_ in range(ROUNDS):
            for way in WAYS:
                module = [sys.executable, "-m", "tests.benchmarks.ingesting"]
                command = [*module, way, str(raw), f"{work}/{way}{round_}", "-"]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                spent, memory = map(float, done.stdout.split())
                seconds[way].append(spent)
                peak[way] = max(peak[way], memory)
                print(f"  round {round_ + 1}, {way}: {spent:.1f} CPU-s, peak {memory:,.0f} MiB", flush=True)
        wrong = differences(Path(work) / "ours0" / "dataset", Path(work) / "pandas0" / "dataset")
    middle = {way: statistics.median(spent) for way, spent in seconds.items()}
    for way in WAYS:
        print(f"{way:7} {middle[way]:6.1f} CPU-s  {ratings / middle[way] / 1e6:5.2f} M ratings a second  "
              f"peak {peak[way]:6,.0f} MiB")  # fmt: skip
    same = "yes" if not wrong else f"NO: {', '.join(wrong)}"
    print(f"ratio {middle['pandas'] / middle['ours']:.1f}, same tables: {same}")


if __name__ == "__main__":
    main(sys.argv[1:])
