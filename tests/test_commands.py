"""Every command in a block of a page is run as it stands, on small data, or says why not.

Training is cut to an epoch, models and codebooks to a few numbers, and texts and pictures are hashed. A command that no
test runs is in a block whose paragraph says so (`ELSEWHERE` of `documents.py`) or has a comment that does (`UNRUN`).
Commands in the middle of a sentence are mentions: `test_documents.py` reads them.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.stages import STAGES
from pipelines.__main__ import app as pipelines
from pipelines.runner import recipes
from tests.cli.conftest import Cli, cli
from tests.conftest import ROOT
from tests.documents import commands, pages
from tests.forked import run_forked
from tests.workspace import build, lay_out

__all__ = ["cli"]

RUN_IN = {
    r"modalrec serve": "tests/cli/test_serve.py",
    r"make setup": "Makefile",
    r"name=(?:slices|markov)\b": "tests/test_readme.py",
    r"torchrun": "tests/training/test_together.py",
    r"pipelines compile": "tests/pipelines/test_compile.py",
    r"RECIPE=compare(?! PRESET=modalities)": "tests/pipelines/test_compare.py",
    r"embed_image\.given": "tests/stages/test_given_vectors.py",
    r"finetune_layers": "tests/stages/test_fine_tuning.py",
    r"yoochoose .*tune\.trials": "tests/pipelines/test_session_tuned.py",
    r"pytest (?P<place>\S+)": r"\g<place>",
}
"""Commands that the tests of these places run, on data of their own too, or that make what tests run in."""
QUICK = ("--set", "training.epochs=1")
MORE = {
    "quantize": QUICK,
    "pretrain": QUICK,
    "finetune": QUICK,
    "tune": ("--trials", "1", "--set", "training.epochs=1"),
}
"""What a stage's command gets besides, so that it is done soon."""
HASHED = ("embed_text.encoder.name=hashing", "embed_image.encoder.name=hashing")
PUBLISHED = (
    *("quantize.quantizer.slots=4", "quantize.quantizer.width=8"),
    *("quantize.quantizer.hidden=[16]", "quantize.training.epochs=1", "finetune.recommender.width=8"),
    *("finetune.recommender.attention=[16]", "finetune.recommender.layers=[16]"),
)
"""What the preset of the MicroLens challenge gets besides: its quantizer takes five gigabytes."""
EPOCH, CODES = "finetune.training.epochs=1", "quantize.quantizer.codebook_size=8"
REPORT = ("evaluate.bootstrap_samples=100", "evaluate.gallery_users=1")
PRETRAIN = "pretrain.training.epochs=1"
TINY = {
    "semantic_id": (*HASHED, CODES, "quantize.training.epochs=1", PRETRAIN, EPOCH, *REPORT),
    "mp4sr": (*HASHED, PRETRAIN, EPOCH, *REPORT),
    "ctr": (*HASHED, CODES, EPOCH),
    "rating": (*HASHED, EPOCH),
    "session": (*HASHED, EPOCH, *REPORT),
    "compare": (*HASHED, CODES, EPOCH, *REPORT),
}
"""What a recipe's run gets besides."""
PLACE = re.compile(r"out/\S+|[\w./-]+\.(?:csv|parquet|yaml|json)")


def written() -> dict[str, bool]:
    """Every command in a block of a page, and whether a test is to run it."""
    return {
        command: not elsewhere
        for page in pages()
        for command, whole, elsewhere in commands((ROOT / page).read_text())
        if whole
    }


def kind(command: str) -> str:
    """How a command is run here: as `modalrec`, as a recipe, elsewhere, or not at all."""
    for pattern, place in RUN_IN.items():
        if found := re.search(pattern, command):
            assert (ROOT / found.expand(place)).exists()
            return "elsewhere"
    words = shlex.split(command)
    if words[0] == ".venv/bin/modalrec":
        return "modalrec"
    recipe = words[:2] == ["make", "demo"] or words[1:3] == ["-m", "pipelines"]
    return "recipe" if recipe else "none"


def to_run(wanted: str) -> list[str]:
    return [command for command, here in written().items() if here and kind(command) == wanted]


def outputs(words: list[str]) -> list[str]:
    """The places that a command of modalrec writes to."""
    stage = STAGES.get(words[0].replace("-", "_"))
    options = {f"--{stage.outputs[0]}"} if stage else {"--comparison", "--encoded", "--out"}
    if words[0] == "import":
        options = {f"--{words[1]}"}
    found = [word for before, word in pairwise(words) if before.replace("-", "_").replace("__", "--", 1) in options]
    return [*found, words[2]] if words[0] == "export" else found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all recipes put their results, with one store: what one has made another one finds.

    Recipes are loaded from a thread of their own: kfp looks at the whole stack in each of their lines, and pytest's is
    deep.
    """
    with ThreadPoolExecutor(1) as thread:
        thread.submit(recipes.names).result()
    folder = tmp_path_factory.mktemp("results")
    with EmbeddedStore(folder / "store"):
        yield folder


@pytest.fixture
def here(request: pytest.FixtureRequest, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workspace as the test's command means it; the working folder."""
    lay_out(workspace, request.node.callspec.params["command"], tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path / "here"


def test_every_command_is_run_or_says_why_not() -> None:
    assert not to_run("none"), "run it here, or say in its comment what it needs"


@pytest.mark.parametrize("command", to_run("modalrec"))
def test_a_command_of_modalrec_runs(command: str, here: Path, cli: Cli) -> None:
    command, _, shown = command.partition(" > ")
    words = shlex.split(command)[1:]
    made = [here / place for place in outputs(words)]
    for place in made:
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    code, out, err = cli(*words, *MORE.get(words[0], ()))
    assert code == 0, err
    assert made or out
    assert all(place.exists() for place in made)
    if shown:
        assert out


@pytest.mark.parametrize("command", to_run("recipe"))
def test_a_recipe_of_a_page_runs(command: str, here: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.runner.local.run_process", run_forked)
    group: Any = typer.main.get_command(pipelines)
    started = shlex.split(command.replace("$(git rev-parse HEAD)", "today"))
    if started[0] == "make":
        dry = subprocess.run(["make", "--dry-run", *started[1:]], cwd=ROOT, check=True, capture_output=True, text=True)
        started = shlex.split(next(line for line in dry.stdout.splitlines() if "-m pipelines run" in line))
    _, _, _, name, *words = started
    recipe, *words = words
    if name == "compile":
        group([name, recipe, *words], standalone_mode=False)
        assert (here / "DIR" / f"{recipe}.yaml").exists()
        return
    tiny = [setting for setting in TINY[recipe] if "finetune_layers" not in command or setting != HASHED[0]]
    tiny += ["tune.trials=1"] if "tune.trials" in command else []
    tiny += PUBLISHED if "PRESET=mmctr" in command else []
    more = [word for setting in tiny for word in ("--set", setting)] + ["--no-controls", "--out", str(results)]
    group([name, recipe, *words, *more], standalone_mode=False)
    assert (results / recipe / "report.html").exists()
    assert (results / recipe / "model" / "manifest.json").exists() == (recipe != "compare"), "one model was judged"
