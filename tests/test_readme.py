"""The plug-ins in the README are taken from its text and keep the contracts of their kinds; its commands exist."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modalrec import plugins
from modalrec.testing.quantizers import QuantizerContract
from modalrec.testing.recommenders import RecommenderContract
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (src/modalrec/\S+\.py)\n(.*?)```", README, re.DOTALL))


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


class TestReadmeQuantizer(QuantizerContract):
    @pytest.fixture(autouse=True)
    def _take(self, examples: dict[str, Any]) -> None:
        self.plugin = examples["slices"]


class TestReadmeRecommender(RecommenderContract):
    @pytest.fixture(autouse=True)
    def _take(self, examples: dict[str, Any]) -> None:
        self.plugin = examples["markov"]


def test_a_file_in_the_folder_is_all_that_a_plug_in_needs(tmp_path: Path) -> None:
    """In a copy of the sources, the commands of the README know the new plug-ins at once."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for path, code in EXAMPLES.items():
        (tmp_path / path).write_text(code)
    for stage, setting in (("quantize", "quantizer.name=slices"), ("finetune", "recommender.name=markov")):
        shown = subprocess.run(
            [sys.executable, "-m", "modalrec", "config", stage, "--set", setting],
            env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
            capture_output=True,
            text=True,
        )
        assert shown.returncode == 0, shown.stderr
        assert setting.partition("=")[2] in shown.stdout


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", README)) <= targets


def test_every_command_and_option_that_is_named_exists() -> None:
    for command, rest in re.findall(r"^\.venv/bin/modalrec ((?:import |export )?[\w-]+)(.*)$", README, re.MULTILINE):
        shown = subprocess.run(
            [sys.executable, "-m", "modalrec", *command.split(), "--help"],
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
        )
        assert shown.returncode == 0, shown.stderr
        for option in re.findall(r" (--[a-z-]+)", rest.partition("#")[0]):
            assert option in shown.stdout, f"modalrec {command} {option}"


def test_every_file_that_is_linked_is_there() -> None:
    assert "@@" not in README
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
