"""Hostile titles, names, files and errors in every kind of report: escaped, and headless Chromium runs nothing of them.

They come in where data can put them: titles of items and names of users, names of source files and reasons in the
statistics of a dataset, names of what is compared, values of parameters and errors of trials.
"""

import re
from pathlib import Path

import pytest
from jinja2 import Environment

from modalrec.artifacts import read_manifest
from modalrec.artifacts.files import write_json
from modalrec.config import resolve
from modalrec.evaluation import report
from modalrec.run import Run
from modalrec.stages.compare import Config as CompareConfig
from modalrec.stages.compare import compare
from modalrec.tuning.build import list_field
from modalrec.tuning.report import write_report
from tests.browser import dumped
from tests.evaluation.report.test_report import assert_alone
from tests.raw import write_tables
from tests.rows import clicks
from tests.stages.test_ratings import DLRM
from tests.stages.test_rows import DIN
from tests.stages.trained import run_stage
from tests.tuning.small import experiment

RUN = "document.title+=`#{0}#`"
PAYLOADS = (
    "<script>RUN</script>",
    "<ScRiPt>RUN</sCrIpT>",
    "</title><script>RUN</script>",
    "</style><script>RUN</script>",
    "</textarea><script>RUN</script>",
    "--><script>RUN</script>",
    "]]><script>RUN</script>",
    '"><img src=x onerror="RUN">',
    "'><img src=x onerror='RUN'>",
    '" onmouseover="RUN" autofocus onfocus="RUN" x="',
    "' onload='RUN",
    "<svg onload=RUN>",
    "<svg><script>RUN</script></svg>",
    "<math><mtext></mtext><script>RUN</script></math>",
    "<iframe src='javascript:parent.RUN'></iframe>",
    "<iframe srcdoc='<script>parent.RUN</script>'></iframe>",
    "<body onload=RUN>",
    "<details open ontoggle=RUN>x</details>",
    "<a href='javascript:RUN' id=x>x</a><script>x.click()</script>",
    "<link rel=stylesheet href=x onerror=RUN>",
    "<meta http-equiv=refresh content='0;url=javascript:RUN'>",
    "{{ ''.__class__ }}{% raw %}<script>RUN</script>",
    "\u202e<script>RUN</script>",
    "\x00\x1b\u2066\u200f<script>RUN</script>",
    "&lt;script&gt;RUN&lt;/script&gt;<script>RUN</script>",
)
TITLES = [payload.replace("RUN", RUN.format(number)) for number, payload in enumerate(PAYLOADS)]
SETTINGS = {"list_length": 12, "cutoffs": [1, 5, 10], "gallery_users": 24, "bootstrap_samples": 100}
KINDS = ("evaluation", "comparison", "clicks", "ratings", "search")
TURNED = re.compile("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f]")
"""What turns the direction of text, and control characters but tab and line feed."""


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset in which items and users are called by the payloads, and a model; rows, and models of them."""
    folder = tmp_path_factory.mktemp("hostile")
    count = len(TITLES)
    items = "\n".join(["item_id,title", *(f"f{number},{quoted(title)}" for number, title in enumerate(TITLES))])
    rows = [(user, (user + step) % count, 1000 * user + step) for user in range(count) for step in range(6)]
    lines = [f"{quoted(TITLES[user])},f{item},{time},5" for user, item, time in rows]
    write_tables(folder / "raw", items + "\n", "\n".join(["user_id,item_id,timestamp,rating", *lines]) + "\n")
    chosen = {"min_user_events": 3, "min_item_events": 1, "splits": ["leave_one_out"]}
    run_stage("ingest", chosen, source=folder / "raw", dataset=folder / "dataset")
    model = {"name": "sasrec", "width": 8, "heads": 2, "layers": 1, "history": 8}
    found = {"dataset": folder / "dataset", "model": folder / "model", "rows": slander(clicks(folder / "rows"))}
    run_stage(
        "finetune", {"recommender": model, "training": {"epochs": 1}}, dataset=found["dataset"], model=found["model"]
    )
    for kind, recommender in (("clicks", {**DIN, "without": ["codes"]}), ("ratings", {**DLRM, "without": ["content"]})):
        found[kind] = folder / kind
        settings = {"recommender": recommender, "split": "random", "training": {"epochs": 1, "batch_size": 512}}
        run_stage("finetune", settings, dataset=found["rows"], model=found[kind])
    return found


def slander(dataset: Path) -> Path:
    """Puts the payloads where a dataset tells of its source."""
    manifest = read_manifest(dataset, "dataset")
    told = {
        "source_files": {title: {"bytes": number} for number, title in enumerate(TITLES)},
        "summary": [{"why": title, "interactions": number} for number, title in enumerate(TITLES)],
        "words": TITLES,
    }
    changed = manifest.model_copy(update={"statistics": {**manifest.statistics, **told}})
    changed = changed.model_copy(update={"digest": changed.identity()})
    write_json(dataset / "manifest.json", changed.model_dump(mode="json"))
    return dataset


def reported(kind: str, edges: dict[str, Path], folder: Path) -> Path:
    """A report of a kind into which all payloads came."""
    if kind in ("clicks", "ratings"):
        columns = {"rows": {"prediction_columns": TITLES, "ranked_users": 0}}
        settings = {"split": "random", **columns}
        run_stage("evaluate", settings, dataset=edges["rows"], model=edges[kind], evaluation=folder)
    elif kind == "search":
        folder.mkdir()
        given = experiment(fields=[list_field("word", TITLES), list_field("other", ["a", "b"])])
        listed = [
            {"trial": number, "state": "succeeded", "value": number / 30, "parameters": {"word": title, "other": "a"}}
            | {"metrics": {}, "epochs": [], "seconds": 1.0, "error": title}
            for number, title in enumerate(TITLES)
        ]
        write_report(folder, given, listed, Run("tune", quiet=True))
    else:
        made = folder.with_name(f"{folder.name}-of") if kind == "comparison" else folder
        run_stage("evaluate", SETTINGS, dataset=edges["dataset"], model=edges["model"], evaluation=made)
        if kind == "comparison":
            config = resolve(CompareConfig, {"names": TITLES, "bootstrap_samples": 100})
            run = Run("compare", quiet=True)
            compare([made] * len(TITLES), edges["dataset"], folder, config=config, run=run)
    return folder / "report.html"


@pytest.fixture(scope="module", params=KINDS)
def page(request: pytest.FixtureRequest, edges: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reported(request.param, edges, tmp_path_factory.mktemp("reports") / request.param)


def ran(page: Path, folder: Path) -> set[int]:
    """The payloads that headless Chromium runs on a page."""
    shown = dumped(page, folder)
    # A payload that is shown has a backtick before its number, one that has run has put it into the title.
    return {int(number) for number in re.findall(r"(?<!`)#(\d+)#", shown)}


@pytest.fixture(scope="module")
def seen(page: Path, tmp_path_factory: pytest.TempPathFactory) -> set[int]:
    return ran(page, tmp_path_factory.mktemp("browser"))


@pytest.mark.fault("hostile")
@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_a_hostile_title_is_text(number: int, page: Path, seen: set[int]) -> None:
    html = page.read_text(encoding="utf-8")
    assert f"#{number}#" in html, "it is shown"
    assert number not in seen


@pytest.mark.fault("hostile")
def test_the_page_is_alone_and_nothing_turns_its_text(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert_alone(html)
    assert not TURNED.search(html)
    summary = page.with_name("summary.md")
    assert not summary.exists() or not re.search(f"{TURNED.pattern}|<[a-zA-Z/!]", summary.read_text(encoding="utf-8"))


@pytest.mark.guard("hostile")
@pytest.mark.parametrize("kind", KINDS)
def test_without_escaping_chromium_runs_them(
    kind: str, edges: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(**settings: object) -> Environment:
        return Environment(**{**settings, "autoescape": False})  # type: ignore[arg-type]  # noqa: S701

    monkeypatch.setattr(report, "Environment", careless)
    assert ran(reported(kind, edges, tmp_path / kind), tmp_path / "browser")
