"""Hostile titles and user names in a report: escaped, and headless Chromium runs nothing of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from jinja2 import Environment

from modalrec.evaluation import report
from tests.evaluation.report.test_report import assert_alone
from tests.raw import write_tables
from tests.stages.trained import run_stage

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
    "&lt;script&gt;RUN&lt;/script&gt;<script>RUN</script>",
)
TITLES = [payload.replace("RUN", RUN.format(number)) for number, payload in enumerate(PAYLOADS)]
SETTINGS = {"list_length": 12, "cutoffs": [1, 5, 10], "gallery_users": 24, "bootstrap_samples": 100}


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset in which items and users are called by the payloads, and a model."""
    folder = tmp_path_factory.mktemp("hostile")
    count = len(TITLES)
    items = "\n".join(["item_id,title", *(f"f{number},{quoted(title)}" for number, title in enumerate(TITLES))])
    rows = [(user, (user + step) % count, 1000 * user + step) for user in range(count) for step in range(6)]
    lines = [f"{quoted(TITLES[user])},f{item},{time},5" for user, item, time in rows]
    write_tables(folder / "raw", items + "\n", "\n".join(["user_id,item_id,timestamp,rating", *lines]) + "\n")
    chosen = {"min_user_events": 3, "min_item_events": 1, "splits": ["leave_one_out"]}
    run_stage("ingest", chosen, source=folder / "raw", dataset=folder / "dataset")
    model = {"name": "sasrec", "width": 8, "heads": 2, "layers": 1, "history": 8}
    found = {"dataset": folder / "dataset", "model": folder / "model"}
    run_stage("finetune", {"recommender": model, "training": {"epochs": 1}}, **found)
    return found


def evaluated(edges: dict[str, Path], folder: Path) -> Path:
    run_stage("evaluate", SETTINGS, **edges, evaluation=folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(edges: dict[str, Path]) -> Path:
    return evaluated(edges, edges["dataset"].with_name("evaluation"))


def ran(page: Path, folder: Path) -> set[int]:
    """The payloads that headless Chromium runs on a page."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on the PATH; install it to see that reports run no script")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--incognito"]
    command += [f"--user-data-dir={folder}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    # A payload that is shown has a backtick before its number, one that has run has put it into the title.
    return {int(number) for number in re.findall(r"(?<!`)#(\d+)#", done.stdout)}


@pytest.fixture(scope="module")
def seen(page: Path, tmp_path_factory: pytest.TempPathFactory) -> set[int]:
    return ran(page, tmp_path_factory.mktemp("browser"))


@pytest.mark.fault("hostile")
@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_a_hostile_title_is_text(number: int, page: Path, seen: set[int]) -> None:
    html = page.read_text(encoding="utf-8")
    assert f"#{number}#" in html, "it is shown"
    assert number not in seen


def test_the_page_is_alone(page: Path) -> None:
    assert_alone(page.read_text(encoding="utf-8"))


@pytest.mark.guard("hostile")
def test_without_escaping_chromium_runs_them(
    edges: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(**settings: object) -> Environment:
        return Environment(**{**settings, "autoescape": False})  # type: ignore[arg-type]  # noqa: S701

    monkeypatch.setattr(report, "Environment", careless)
    assert len(ran(evaluated(edges, tmp_path / "evaluation"), tmp_path / "browser")) > 5
