"""The front page is short and true; the plug-ins of `src/EXTENDING.md`, taken from its text, keep their contracts."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modalrec import plugins
from modalrec.artifacts import read_manifest
from modalrec.testing.quantizers import QuantizerContract
from modalrec.testing.recommenders import RecommenderContract
from pipelines.runner import recipes
from tests.cli.conftest import Cli, cli
from tests.conftest import ROOT
from tests.documents import commands
from tests.workspace import build

__all__ = ["cli"]

README = (ROOT / "README.md").read_text()
EXTENDING = (ROOT / "src" / "EXTENDING.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (src/modalrec/\S+\.py)\n(.*?)```", EXTENDING, re.DOTALL))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The examples, each as a file in a folder that its package also looks into; gone afterwards."""
    folder, found = tmp_path_factory.mktemp("plugins"), {}
    packages = []
    for path, code in EXAMPLES.items():
        kind, name = Path(path).parts[-2], Path(path).stem
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / f"{name}.py").write_text(code)
        package = importlib.import_module(f"modalrec.{kind}")
        package.__path__.append(str(folder / kind))
        packages.append(package)
        plugins.discover.cache_clear()
        found[name] = plugins.discover(kind)[name]
    yield found
    for package in packages:
        package.__path__.pop()
    plugins.discover.cache_clear()


class TestPageQuantizer(QuantizerContract):
    @pytest.fixture(autouse=True)
    def _take(self, examples: dict[str, Any]) -> None:
        self.plugin = examples["slices"]


class TestPageRecommender(RecommenderContract):
    @pytest.fixture(autouse=True)
    def _take(self, examples: dict[str, Any]) -> None:
        self.plugin = examples["markov"]


def test_a_file_in_the_folder_is_all_that_a_plug_in_needs(tmp_path: Path) -> None:
    """In a copy of the sources, the commands of the page run with the new plug-ins at once."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for path, code in EXAMPLES.items():
        (tmp_path / path).write_text(code)
    workspace = build(tmp_path / "workspace")
    for place in ("codes", "model"):
        shutil.rmtree(workspace / "out" / place)
    new = re.compile("|".join(f"name={Path(path).stem}" for path in EXAMPLES))
    run = [command for command, whole, _ in commands(EXTENDING) if whole and new.search(command)]
    assert {shlex.split(command)[1] for command in run} == {"config", "quantize", "finetune"}
    for command in run:
        shown = subprocess.run(
            [sys.executable, "-m", *shlex.split(command.removeprefix(".venv/bin/"))],
            cwd=workspace,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
            capture_output=True,
            text=True,
        )
        assert shown.returncode == 0, shown.stderr
    assert read_manifest(workspace / "out" / "codes", "codes").config["quantizer"]["name"] == "slices"
    assert read_manifest(workspace / "out" / "model", "model").config["recommender"]["name"] == "markov"


def test_the_front_page_is_short() -> None:
    assert len(README.splitlines()) < 300


@pytest.mark.parametrize("page", ["README.md", "pipelines/README.md"])
def test_the_recipes_of_the_table_are_those_there_are(page: str) -> None:
    table = re.search(r"^\| recipe \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", (ROOT / page).read_text(), re.MULTILINE)
    assert table is not None
    rows = re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE)
    assert set(rows) <= set(recipes.names()), "a row without a recipe"
    if page != "README.md":
        assert set(rows) == set(recipes.names()), f"give the new recipe a row in {page}, and one in README.md"


def test_the_five_rows_are_read(cli: Cli, tmp_path: Path) -> None:
    """The tables that the front page shows side by side, as files: all columns are known, all rows belong together."""
    block = re.search(r"```\n(items\.csv .*?)```", README, re.DOTALL)
    assert block is not None
    names, *rows = (re.split(r" {2,}", line) for line in block[1].splitlines())
    for name, lines in zip(names, zip(*rows, strict=True), strict=True):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    code, out, err = cli("ingest", "--source", tmp_path, "--dataset", tmp_path / "dataset")
    assert code == 3, "two events are no data set"
    assert "items read 2" in out + err
    assert "of 2 rows: 0 dropped: their item is not in the items table" in err
    assert "2 dropped: fewer than 5 events a user" in err
