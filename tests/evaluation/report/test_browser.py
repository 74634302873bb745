"""Every kind of report in headless Chromium: nothing sticks out or is cut, everything can be read, on a phone too."""

from pathlib import Path
from typing import Any

import pytest

from modalrec.config import resolve
from modalrec.run import Run
from modalrec.stages.compare import Config, compare
from modalrec.tuning.report import write_report
from tests.browser import PHONE, SCHEMES, SCREEN, Look, look
from tests.raw import ROOT, write_tables
from tests.stages.test_ratings import DLRM
from tests.stages.test_rows import DIN
from tests.stages.trained import RECOMMENDER, run_stage
from tests.tuning.small import experiment

USERS, ITEMS = 40, 24
TITLES = ("The Lord of the Rings: The Return of the King (2003)", "Up", "Donaudampfschifffahrtsgesellschaftskapitaen")
SETTINGS = {"list_length": 12, "cutoffs": [1, 5, 10], "gallery_users": 4, "bootstrap_samples": 100, "beam_sample": 5}
TRAINING = {"epochs": 2, "batch_size": 64}
KINDS = ("ranking", "comparison", "clicks", "ratings", "search")
PALE = "<body style='background: #fff'><div class=wide><p style='color: #999; width: 2000px'>pale</p></div></body>"


def ingested(folder: Path) -> Path:
    """Ratings by half stars, long titles, drawn pictures."""
    titles = "\n".join(f'i{item},"{TITLES[item % 3]} {item}",Text {item},Drama|War' for item in range(ITEMS))
    rows = [(user, step, (user * 7 + 5 * step) % ITEMS) for user in range(USERS) for step in range(6 + user % 15)]
    lines = [f"u{user},i{item},{1000 * step + user},{0.5 + (user + 3 * item) % 10 / 2}" for user, step, item in rows]
    interactions = "\n".join(["user_id,item_id,timestamp,rating", *lines]) + "\n"
    write_tables(folder / "raw", f"item_id,title,text,categories\n{titles}\n", interactions)
    chosen: dict[str, Any] = {"label": {"at_least": 4}, "splits": ["leave_one_out", "random"]}
    run_stage("ingest", {**chosen, "images": {"missing": "draw"}}, source=folder / "raw", dataset=folder / "dataset")
    return folder / "dataset"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of every kind."""
    folder = tmp_path_factory.mktemp("reports")
    made = {name: folder / name for name in (*KINDS, "fused", "codes", "groups", "model", "din", "dlrm")}
    dataset = ingested(folder)
    apart = {"text_embeddings": folder / "texts", "image_embeddings": folder / "pictures"}
    for kind, (edge, place) in zip(("text", "image"), apart.items(), strict=True):
        run_stage(f"embed_{kind}", {"encoder": {"name": "hashing", "dimension": 16}}, dataset=dataset, **{edge: place})
    run_stage("fuse", {}, **apart, embeddings=made["fused"])
    coding: dict[str, Any] = {"quantizer": {"name": "rq_kmeans", "levels": 2, "codebook_size": 8}}
    run_stage("quantize", coding, embeddings=made["fused"], codes=made["codes"])
    run_stage("quantize", {**coding, "form": "groups", "towers": "separate"}, **apart, codes=made["groups"])

    given = {"dataset": dataset, "codes": made["codes"], "embeddings": made["fused"]}
    run_stage("finetune", {"recommender": RECOMMENDER, "training": TRAINING}, **given, model=made["model"])
    run_stage("evaluate", SETTINGS, **given, **apart, model=made["model"], evaluation=made["ranking"])
    names = resolve(Config, {"names": ["an encoder-decoder with a name of some length", "another"]})
    compare([made["ranking"]] * 2, dataset, made["comparison"], config=names, run=Run("compare", quiet=True))

    rows = {"split": "random"}
    about: dict[str, Path] = {"dataset": dataset, "codes": made["groups"]}
    run_stage("finetune", {**rows, "recommender": DIN, "training": TRAINING}, **about, model=made["din"])
    run_stage("evaluate", rows, **about, **apart, model=made["din"], evaluation=made["clicks"])
    about = {"dataset": dataset, **apart}
    run_stage("finetune", {**rows, "recommender": DLRM, "training": TRAINING}, **about, model=made["dlrm"])
    run_stage("evaluate", rows, **about, model=made["dlrm"], evaluation=made["ratings"])

    made["search"].mkdir()
    trials = [
        {
            "trial": number,
            "state": "failed" if number == 3 else "succeeded",
            "value": None if number == 3 else number / 9,
        }
        | {"parameters": {"x": f"{number / 10}", "n": "4", "word": "b"}, "metrics": {}, "epochs": [], "seconds": 61.0}
        | {"error": "out of memory: take a smaller batch_size, " * 5 if number == 3 else None}
        for number in range(9)
    ]
    write_report(made["search"], experiment(), trials, Run("tune", quiet=True))
    return {kind: made[kind] / "report.html" for kind in KINDS}


@pytest.fixture(scope="module")
def looks(pages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], dict[str, Look]]:
    folder = tmp_path_factory.mktemp("browser")
    return {(width, scheme): look(pages, folder, width, scheme) for width in (PHONE, SCREEN) for scheme in SCHEMES}


@pytest.mark.parametrize("width", [PHONE, SCREEN])
@pytest.mark.parametrize("kind", KINDS)
def test_a_report_is_as_wide_as_its_window(
    kind: str, width: int, looks: dict[tuple[int, str], dict[str, Look]]
) -> None:
    for scheme in SCHEMES:
        seen = looks[width, scheme][kind]
        assert seen.width == width
        assert seen.sticks_out == 0
        assert width == PHONE or not seen.cut, "on a phone wide tables are scrolled, on a screen none is"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_text_stands_out(kind: str, scheme: str, looks: dict[tuple[int, str], dict[str, Look]]) -> None:
    assert not looks[PHONE, scheme][kind].pale
    assert not looks[SCREEN, scheme][kind].pale
    assert (looks[SCREEN, scheme][kind].page > 0.5) == (scheme == "light"), "the page follows what a person prefers"


@pytest.mark.parametrize("width", [PHONE, SCREEN])
@pytest.mark.parametrize("kind", ["ranking", "clicks"])
def test_items_of_the_map_show_themselves_in_the_window(
    kind: str, width: int, looks: dict[tuple[int, str], dict[str, Look]]
) -> None:
    assert looks[width, "light"][kind].shown == ITEMS, "by keyboard, each with its whole card"


def test_what_is_pale_or_cut_is_seen(tmp_path: Path) -> None:
    (tmp_path / "pale.html").write_text(PALE + "<style>.wide { overflow-x: auto }</style>")
    (tmp_path / "wide.html").write_text("<p style='width: 2000px'>wide</p>")
    seen = look({name: tmp_path / f"{name}.html" for name in ("pale", "wide")}, tmp_path, PHONE, "light")
    assert seen["pale"].pale == ["pale: 2.85"]
    assert seen["pale"].cut == ["pale"]
    assert not seen["pale"].sticks_out
    assert seen["wide"].sticks_out > 1000


@pytest.mark.parametrize(("kind", "said"), [
    ("ranking", ("Training", "Semantic IDs", "perplexity", "Gallery", "Neighbours", "by text", "by picture")),
    ("clicks", ("false positive rate", "share of clicks by", "Codes", "perplexity", "by picture", "Training")),
    ("ratings", ("By the rating that came", "By train rows of the user", "by text", "Training")),
    ("comparison", ("95 % interval", "Holm", "Quality and cost", "head", "torso", "tail", "By histories")),
])  # fmt: skip
def test_what_a_report_is_to_have(kind: str, said: tuple[str, ...], pages: dict[str, Path]) -> None:
    html = pages[kind].read_text(encoding="utf-8")
    for words in (*said, "Data", "Leakage checks", "Origin", "Software", "ingest"):
        assert words in html, words
    assert ('class="map"' in html and '<div class="spot' in html) == (kind in ("ranking", "clicks"))
    assert str(ROOT) not in html
