"""A folder as the pages of documentation speak of it: raw data of every kind, small, and what the stages made of some.

Names that several pages use for different things (`DIR`, `RAW`, `out/dataset` of clicks or of sessions) are kept apart
below `worlds`, and `PLACES` says which commands mean which.
"""

import json
import pickle
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modalrec.data.synthetic import Shape, generate_microlens
from modalrec.run import Run
from tests.raw import ROOT, write_atomic, write_inter, write_reviews, write_sessions, write_several, write_tables
from tests.stages import trained

ITEM_IDS = (50, 181, 174, *range(1, 10))
USERS, EVENTS = 30, 8
EVALUATED = {"ties": "report", "gallery_users": 0, "bootstrap_samples": 100, "beam_sample": 0}
HASHING = {"encoder": {"name": "hashing", "dimension": 16}}
ONE = {"epochs": 1}
LAST_CLICK = 1_442_545_200
"""Where the preset `retailrocket` ends its test part."""
SPACE = [
    {"name": "layers", "dtype": "int", "values": [16, 32], "step": 16},
    {"name": "learning_rate", "dtype": "float", "values": [0.05, 0.1], "step": 0.05},
]
"""A parameter space of GRU4Rec as its authors publish them."""

PLACES = (
    (re.compile(r"_emb\w*\.pkl"), {"DIR": "worlds/pickles", "out/dataset": "worlds/pickles/dataset"}),
    (re.compile(r"source\.name=atomic"), {"DIR": "worlds/atomic"}),
    (re.compile(r"source\.item_features"), {"DIR": "worlds/tagged"}),
    (re.compile(r"name=din"), {"out/codes": "worlds/groups"}),
    (re.compile(r"finetune .*--preset session|tune .*gru4rec"), {"out/dataset": "worlds/sessions/dataset"}),
    (re.compile(r"PRESET=retailrocket"), {"DIR": "worlds/retailrocket"}),
    (re.compile(r"PRESET=pantry"), {"DIR": "pantry"}),
    (re.compile(r"RECIPE=session(?!.*content=true)|run session"), {"DIR": "worlds/sessions/raw"}),
    (re.compile(r"."), {"DIR": "my-folder"}),
)
"""From what a command says to which folders it means by the names that several have; the first that fits counts."""


def places(command: str) -> dict[str, str]:
    """Which folders of the workspace a command means by names that several have."""
    return next(meant for pattern, meant in PLACES if pattern.search(command))


def lay_out(workspace: Path, command: str, here: Path) -> None:
    """A copy of the workspace as a command means it."""
    shutil.copytree(workspace, here, symlinks=True)
    for name, meant in places(command).items():
        shutil.rmtree(here / name, ignore_errors=True)
        shutil.copytree(workspace / meant, here / name)


def build(folder: Path) -> Path:
    """Makes the workspace, in a checkout as far as commands read that."""
    shutil.copytree(ROOT / "manifests" / "katib", folder / "manifests" / "katib")
    _raw(folder)
    _files(folder)
    out, worlds = folder / "out", folder / "worlds"
    labelled = {"label": {"at_least": 4}, "splits": ["leave_one_out", "temporal", "random"]}
    trained.run_stage("ingest", labelled, source=folder / "my-folder", dataset=out / "dataset")
    apart = {"text_embeddings": out / "text", "image_embeddings": out / "image"}
    trained.run_stage("embed_text", HASHING, dataset=out / "dataset", text_embeddings=out / "text")
    trained.run_stage("embed_image", HASHING, dataset=out / "dataset", image_embeddings=out / "image")
    trained.run_stage("fuse", {}, **apart, embeddings=out / "embeddings")
    coding: dict[str, Any] = {"quantizer": {"levels": 2, "codebook_size": 8}, "training": ONE}
    trained.run_stage("quantize", coding, embeddings=out / "embeddings", codes=out / "codes")
    groups = {**coding, "form": "groups", "towers": "separate"}
    trained.run_stage("quantize", groups, text_embeddings=out / "text", codes=worlds / "groups")
    edges = {"dataset": out / "dataset", "codes": out / "codes", "embeddings": out / "embeddings"}
    model = {"name": "sasrec", "width": 8, "heads": 2, "layers": 1, "content": "sum"}
    trained.run_stage("finetune", {"recommender": model, "training": ONE}, **edges, model=out / "model")
    for name in ("e1", "e2"):
        trained.run_stage("evaluate", EVALUATED, **edges, model=out / "model", evaluation=out / name)
    for copy in ("model_today", "semantic_id/model"):
        shutil.copytree(out / "model", out / copy)
    known = {"dataset": out / "dataset", "codes": out / "codes"}
    trained.run_stage("pretrain", {"training": ONE}, **known, pretrained=out / "pretrained")
    for name in ("dataset", "embeddings", "codes"):
        shutil.copytree(out / name, out / "films" / name)
    shutil.copytree(out / "codes", out / "all" / "codes")
    cut = {"splits": ["sessions"], "deduplicate": "consecutive", "min_item_events": 1}
    trained.run_stage("ingest", cut, source=worlds / "sessions" / "raw", dataset=worlds / "sessions" / "dataset")
    atomic = {"source": {"name": "atomic"}, "min_item_events": 1, "min_user_events": 1}
    trained.run_stage("ingest", atomic, source=worlds / "atomic", dataset=worlds / "pickles" / "dataset")
    return folder


def _raw(folder: Path) -> None:
    worlds = folder / "worlds"
    rows = [
        (user, step, ITEM_IDS[(user * 7 + 5 * step) % len(ITEM_IDS)]) for user in range(USERS) for step in range(EVENTS)
    ]
    interactions = [f"u{user},{item},{1000 * step + user},{1 + (user + item) % 5}" for user, step, item in rows]
    events = "\n".join(["user_id,item_id,timestamp,rating", *interactions]) + "\n"
    items = [f"{item},Kettle {item},Boils {item} litres" for item in ITEM_IDS]
    write_tables(folder / "my-folder", "\n".join(["item_id,title,text", *items]) + "\n", events)
    tagged = [f"{item},Kettle {item},red|{item % 3},{item}.5" for item in ITEM_IDS]
    write_tables(worlds / "tagged", "\n".join(["item_id,title,tags,price", *tagged]) + "\n", events)

    films = [(f"u{user}", f"f{item % 12}", 1 + (user + item) % 5, 86_400 * step + user) for user, step, item in rows]
    for name in ("ml-100k", "out/cache/ml-100k"):
        write_atomic(folder / name, films, 12)
    (folder / "films").mkdir()
    ratings = [f"{user[1:]},{film[1:]},{rating},{time}" for user, film, rating, time in films]
    (folder / "films" / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings]) + "\n")
    titles = [f"{film},Film {film} (1995),Drama|War" for film in range(12)]
    (folder / "films" / "movies.csv").write_text("\n".join(["movieId,title,genres", *titles]) + "\n")

    write_several(folder / "RAW")
    write_inter(worlds / "atomic")
    reviews = [
        (f"A{user}", f"B{item}", 5, 86_400 * (step + 1) + user)
        for user in range(20)
        for step, item in enumerate(range(5))
    ]
    write_reviews(folder / "pantry", 2018, reviews)
    write_sessions(worlds / "sessions" / "raw")
    visits = [
        (number, LAST_CLICK - 7200 * number + 60 * step, (number + step) % 7)
        for number in range(240)
        for step in range(3)
    ]
    lines = [f"{1000 * time},{visit},view,{item}," for visit, time, item in visits]
    (worlds / "retailrocket").mkdir()
    (worlds / "retailrocket" / "events.csv").write_text(
        "\n".join(["timestamp,visitorid,event,itemid,transactionid", *lines]) + "\n"
    )
    (folder / "yoochoose").mkdir()
    clicks = [
        f"{visit},{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%S.000Z},{item},0" for visit, time, item in visits
    ]
    for name, part in (("clicks", clicks[36:]), ("test", clicks[:36])):
        (folder / "yoochoose" / f"yoochoose-{name}.dat").write_text("\n".join(part) + "\n")
    shape = Shape(users=60, items=64, rows=4000)
    generate_microlens(folder / "MicroLens_1M_MMCTR", shape, Run("generate", quiet=True))


def _files(folder: Path) -> None:
    """Single files that commands read."""
    (folder / "new.csv").write_text("item_id,title,text\nn1,New kettle,Boils anything\n")
    (folder / "gru4rec_xe_standard_parspace.json").write_text("".join(json.dumps(line) + "\n" for line in SPACE))
    (folder / "gru.yaml").write_text("recommender: {layers: [16]}\ntraining: {epochs: 1}\n")
    ids, rng = [str(item) for item in ITEM_IDS], np.random.default_rng(0)
    vectors_ND = rng.standard_normal((len(ids), 6)).astype(np.float32)
    np.save(folder / "text.npy", vectors_ND)
    np.save(folder / "gpt_embedding.npy", vectors_ND)
    (folder / "text.ids").write_text("\n".join(ids) + "\n")
    (folder / "Scientific.index.json").write_text(
        json.dumps({id_: [f"<a_{n}>", f"<b_{n % 3}>"] for n, id_ in enumerate(ids)})
    )
    table = pa.table({"item_id": pa.array(ITEM_IDS), "txt_emb_GPT": pa.array(list(vectors_ND))})
    pq.write_table(table.select(["item_id"]), folder / "item_feature.parquet")
    pq.write_table(table, folder / "item_feature_gpt.parquet")
    histories = {"user": ["a", "b"], "history": [ids[:2], ids[3:6]]}
    pq.write_table(pa.table(histories), folder / "users.parquet")
    (folder / "worlds" / "pickles").mkdir(parents=True)
    for name in ("desc_emb", "image_emb_15"):
        lists = {f"f{film}": [row.astype(np.float64) for row in vectors_ND[film : film + 2]] for film in range(6)}
        (folder / "worlds" / "pickles" / f"{name}.pkl").write_bytes(pickle.dumps(lists, 4))
