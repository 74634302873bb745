"""Ingest of 25 M made-up ratings of MovieLens's shape, beside plain pandas code for the same dataset, in one run.

Both read and check ratings.csv and movies.csv, drop exact repeats, keep the 5-core, order each user's ratings by time,
split by time and leave-one-out, compose the texts that encoders read, number genres and years, count what they read,
drop and keep, and digest what they read and write. Tables and counts are compared value by value. Each runs in a
process of its own, alternately; CPU-seconds by `time.process_time`, of which so many in the system, imports and
compilation left out, and the peak of the process's memory.

`python -m tests.benchmarks.ingesting [RATINGS]`; MODALREC_BENCH_TMP names a folder for 2 GB of files, by default the
system's for temporary ones.
"""

import hashlib
import json
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
    """The dataset's tables and counts, as one would write it without a library."""
    films = pd.read_csv(raw / "movies.csv")
    kinds = {"userId": "int32", "movieId": "int32", "rating": "float32", "timestamp": "int64"}
    events = pd.read_csv(raw / "ratings.csv", dtype=kinds)
    if films["movieId"].duplicated().any() or films["movieId"].isna().any() or not np.isfinite(events["rating"]).all():
        raise ValueError("a film stands twice or has no number, or a rating is not finite")
    facts: dict[str, float] = {"rows_read": len(events), "items_read": len(films)}
    known = events["movieId"].isin(films["movieId"])
    facts["dropped_unknown_item"] = len(events) - known.sum()
    events = events[known]
    events["user"] = pd.factorize(events["userId"])[0]
    events = events.sort_values(["user", "timestamp"], kind="stable")
    once = events.drop_duplicates(["userId", "movieId", "timestamp", "rating"])
    facts["dropped_exact_repeats"] = len(events) - len(once)
    events = once
    while True:
        enough = events.groupby("user")["movieId"].transform("size") >= 5
        enough &= events.groupby("movieId")["user"].transform("size") >= 5
        if enough.all():
            break
        events = events[enough]
    facts["dropped_core"] = len(once) - len(events)
    films = films[films["movieId"].isin(events["movieId"])].reset_index(drop=True)
    events["item"] = events["movieId"].map(pd.Series(films.index, index=films["movieId"]))
    users = events.drop_duplicates("user")["userId"]
    events["user"] = pd.factorize(events["user"])[0]
    facts |= {"interactions": len(events), "users": len(users), "items": len(films)}
    grouped = events.groupby("user")
    events["position"] = grouped.cumcount()
    left, size = grouped.cumcount(ascending=False), grouped["item"].transform("size")
    valid_cut, test_cut = events["timestamp"].sort_values().iloc[[int(len(events) * 0.8), int(len(events) * 0.9)]]
    events["split_temporal"] = (events["timestamp"] >= valid_cut).astype(int) + (events["timestamp"] >= test_cut)
    events["split_leave_one_out"] = np.where(size < 3, 0, np.where(left == 0, 2, np.where(left == 1, 1, 0)))
    for split in ("temporal", "leave_one_out"):
        facts |= {f"{split}_{name}": count for name, count in split_facts(events, f"split_{split}").items()}
    times = grouped["timestamp"]
    facts["median_user_span_hours"] = round(float((times.last() - times.first()).median()) / 3600, 4)
    facts["equal_time_share"] = round(float((times.diff().dropna() == 0).mean()), 4)
    kinds = {"user": "int32", "item": "int32", "position": "int32", "timestamp": "int64", "rating": "float32"}
    kinds |= {"split_temporal": "int8", "split_leave_one_out": "int8"}
    events[list(kinds)].astype(kinds).to_parquet(folder / "interactions.parquet", index=False)
    users.astype(str).rename("user_id").to_frame().to_parquet(folder / "users.parquet", index=False)
    write_films(films, folder)
    files = (raw / "movies.csv", raw / "ratings.csv", *folder.glob("*.parquet"))
    digests = {path.name: hashlib.file_digest(path.open("rb"), "sha256").hexdigest() for path in files}
    manifest = {"files": digests, "statistics": {name: float(value) for name, value in facts.items()}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def split_facts(events: pd.DataFrame, split: str) -> dict[str, float]:
    """Events and targets of a split, and the targets that are out of a model's reach."""
    train = events[events[split] == 0]
    facts = {"train_events": len(train)}
    users, items = train["user"].unique(), train["item"].unique()
    for name, part in (("valid", 1), ("test", 2)):
        inside = events[events[split] == part]
        last = inside.drop_duplicates("user", keep="last")
        targets = last[last["position"] > 0]
        facts |= {f"{name}_events": len(inside), f"{name}_targets": len(targets)}
        facts[f"{name}_cold_users"] = len(last) - len(targets)
        facts[f"{name}_users_without_train"] = (~targets["user"].isin(users)).sum()
        facts[f"{name}_unseen_items"] = (~targets["item"].isin(items)).sum()
    return facts


def write_films(films: pd.DataFrame, folder: Path) -> None:
    """Items with their texts, and their genres and years as numbers of categories."""
    parts = films["title"].str.extract(r"^(.*?)\s*\((\d{4})\)\s*$")
    titles = parts[0].fillna(films["title"]).str.replace(r"^(.*), (The|A|An)$", r"\2 \1", regex=True)
    genres = films["genres"].replace("(no genres listed)", "").str.split("|")
    texts = titles + " (" + parts[1] + "). " + genres.str.join(", ") + "."
    items = {"item_id": films["movieId"].astype(str), "title": titles, "text": texts, "categories": genres}
    pd.DataFrame(items | {"year": parts[1]}).astype({"year": "Int32"}).to_parquet(folder / "items.parquet", index=False)
    bags = genres.explode().astype("category").cat.codes + 1
    features = {"genres": bags.groupby(level=0).agg(list), "year": parts[1].astype("category").cat.codes + 1}
    pd.DataFrame(features).to_parquet(folder / "item_features.parquet", index=False)


def run_one(way: str, raw: Path, folder: Path) -> None:
    """Runs one way and prints its CPU-seconds, those in the system, and its peak memory in MiB."""
    few = raw.with_name("few")
    target = folder / "warm-up"
    for source in (few, raw):
        begin, system = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_stime
        if way == "ours":
            ingest(source, target, config=Config(), run=Run("ingest", quiet=True))
        else:
            target.mkdir(parents=True)
            plain_pandas(source, target)
        spent = time.process_time() - begin
        system = resource.getrusage(resource.RUSAGE_SELF).ru_stime - system
        target = folder / "dataset"
    print(spent, system, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def differences(ours: Path, pandas: Path) -> list[str]:
    """The columns of the tables, and the counts, that are not equal."""
    wrong = []
    for name in ("interactions", "users", "items", "item_features"):
        mine, other = (pq.read_table(folder / f"{name}.parquet") for folder in (ours, pandas))
        wrong += [
            f"{name}.{column}"
            for column in other.column_names
            if not mine[column].combine_chunks().equals(other[column].cast(mine[column].type).combine_chunks())
        ]
    told, counted = (json.loads((folder / "manifest.json").read_bytes())["statistics"] for folder in (ours, pandas))
    return wrong + [f"{name}: {told[name]}, {value}" for name, value in counted.items() if told[name] != value]


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
                spent, system, memory = map(float, done.stdout.split())
                seconds[way].append(spent)
                peak[way] = max(peak[way], memory)
                shown = f"{spent:.1f} CPU-s ({system:.1f} in the system), peak {memory:,.0f} MiB"
                print(f"  round {round_ + 1}, {way}: {shown}", flush=True)
        wrong = differences(Path(work) / "ours0" / "dataset", Path(work) / "pandas0" / "dataset")
    middle = {way: statistics.median(spent) for way, spent in seconds.items()}
    for way in WAYS:
        print(f"{way:7} {middle[way]:6.1f} CPU-s  {ratings / middle[way] / 1e6:5.2f} M ratings a second  "
              f"peak {peak[way]:6,.0f} MiB")  # fmt: skip
    same = "yes" if not wrong else f"NO: {', '.join(wrong)}"
    print(f"ratio {middle['pandas'] / middle['ours']:.1f}, same tables and counts: {same}")


if __name__ == "__main__":
    main(sys.argv[1:])
