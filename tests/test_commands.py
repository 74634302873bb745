"""The commands of the front page, and those of other pages that need no more than it, run as they stand, on small data.

`test_documents.py` checks the words of all others. Training is cut to one epoch, and each has a copy of what is there.
"""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from modalrec.stages import STAGES
from tests.cli.conftest import Cli, cli
from tests.conftest import ROOT
from tests.documents import commands, pages
from tests.raw import write_tables
from tests.stages import trained

__all__ = ["cli"]

USERS = 30
EVALUATED = {"ties": "report", "gallery_users": 0, "bootstrap_samples": 100, "beam_sample": 0}
FOREVER = ("serve",)
"""Run in `tests/cli/test_serve.py`."""
ALONE = ("doctor", "plugins", "presets", "config")
ONE_EPOCH = ("quantize", "pretrain", "finetune")
ELSEWHERE = re.compile(r"name=(?:din|openai|markov|slices)\b")
"""Settings that ask for other data, a key, or a plug-in of a page: those are tested with them."""
ITEM_IDS = (50, 181, 174, *range(1, 10))
FOLDERS = ("dataset", "embeddings", "codes", "model", "model_today", "e1", "e2")
KNOWN = {"my-folder", "new.csv", *(f"out/{name}" for name in FOLDERS)}
PLACE = re.compile(r"(?:\w+=)?(my-folder|out/\S+|[\w./-]+\.(?:csv|parquet|yaml|json|npy|pkl))")


def of_pages() -> list[list[str]]:
    """Every command of modalrec in a block of a page whose inputs the workspace has, and those that need none."""
    found = {}
    for page in pages():
        for command, whole, cluster in commands((ROOT / page).read_text()):
            program, name, *words = [*shlex.split(command), ""]
            if program != ".venv/bin/modalrec" or not whole or cluster or name in FOREVER or ELSEWHERE.search(command):
                continue
            read = [word for before, word in pairwise(["", *words]) if before not in {*outputs(name), "--set"}]
            places = {match[1] for word in read if (match := PLACE.fullmatch(word))}
            if name in ALONE or (places and places <= KNOWN):
                found[command] = shlex.split(command)[1:]
    return list(found.values())


def outputs(name: str) -> set[str]:
    """The options of a command that say where to write."""
    stage = STAGES.get(name.replace("-", "_"))
    return {f"--{stage.outputs[0]}"} if stage else {"--comparison", "--encoded", "--out"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages speak of it."""
    folder = tmp_path_factory.mktemp("workspace")
    items = "item_id,title,text\n" + "".join(f"{item},Kettle {item},Boils {item} litres\n" for item in ITEM_IDS)
    rows = [(user, step, ITEM_IDS[(user * 7 + 5 * step) % len(ITEM_IDS)]) for user in range(USERS) for step in range(8)]
    lines = [f"u{user},{item},{1000 * step + user},{1 + (user + item) % 5}" for user, step, item in rows]
    write_tables(folder / "my-folder", items, "\n".join(["user_id,item_id,timestamp,rating", *lines]) + "\n")
    (folder / "new.csv").write_text("item_id,title,text\nn1,New kettle,Boils anything\n")
    out = folder / "out"
    labelled = {"label": {"at_least": 4}, "splits": ["leave_one_out", "temporal", "random"]}
    trained.run_stage("ingest", labelled, source=folder / "my-folder", dataset=out / "dataset")
    text = {"dataset": out / "dataset", "text_embeddings": out / "text"}
    trained.run_stage("embed_text", {"encoder": {"name": "hashing", "dimension": 16}}, **text)
    trained.run_stage("fuse", {}, text_embeddings=out / "text", embeddings=out / "embeddings")
    coding = {"quantizer": {"levels": 2, "codebook_size": 8}, "training": {"epochs": 1}}
    trained.run_stage("quantize", coding, embeddings=out / "embeddings", codes=out / "codes")
    edges = {"dataset": out / "dataset", "codes": out / "codes", "embeddings": out / "embeddings"}
    model = {"name": "sasrec", "width": 8, "heads": 2, "layers": 1, "content": "sum"}
    trained.run_stage("finetune", {"recommender": model, "training": {"epochs": 1}}, **edges, model=out / "model")
    for name in ("e1", "e2"):
        trained.run_stage("evaluate", EVALUATED, **edges, model=out / "model", evaluation=out / name)
    shutil.copytree(out / "model", out / "model_today")
    return folder


@pytest.mark.parametrize("words", of_pages(), ids=" ".join)
def test_a_command_of_a_page_runs(
    words: list[str], workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    here = shutil.copytree(workspace, tmp_path / "here")
    monkeypatch.chdir(here)
    made = [here / word for before, word in pairwise(words) if before in outputs(words[0])]
    for place in made:
        shutil.rmtree(place, ignore_errors=True)
    more = ["--set", "training.epochs=1"] if words[0] in ONE_EPOCH else []
    code, out, err = cli(*words, *more)
    assert code == 0, err
    assert made or out
    assert all(place.exists() for place in made)


def test_the_front_page_is_run() -> None:
    run = {words[0] for words in of_pages()}
    assert run >= {"ingest", "show", "config", "quantize", "compare", "doctor", "finetune", "recommend", "encode-items"}
