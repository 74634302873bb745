"""The Makefile and what continuous integration calls."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def make(*arguments: str) -> str:
    # A pytest that `make test` started must not hand its own flags on.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def test_help_lists_every_target() -> None:
    shown = make("help")
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert [line.split()[1] for line in shown.splitlines()] == phony[1].split()
    assert make() == shown


def test_demo_draws_cards_for_its_own_input_only() -> None:
    plain, own = make("--dry-run", "demo"), make("--dry-run", "demo", "DATA=../my films")
    assert "pipelines.runner.movielens" in plain
    assert "ingest.images.missing=draw" in plain
    assert '--data "../my films"' in own
    assert "draw" not in own
    assert "movielens" not in own


def test_ci_runs_the_same_targets() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"make (\w+)", script) == ["test", "lint", "audit", "compile"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_pinned_versions_satisfy_the_project() -> None:
    """A dependency without a pin would install differently tomorrow."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name}: no pin"
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_containers_are_linted_and_built_from_what_they_may_see() -> None:
    assert "hadolint images/*/Dockerfile" in make("--dry-run", "lint")
    shown = make("--dry-run", "images", "ENGINE=buildah", "VARIANT=cuda", "REGISTRY=registry.example.org/team")
    assert 'images/build "buildah" "cuda" "registry.example.org/team"' in shown
    seen = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for file in (ROOT / "images").glob("*/Dockerfile"):
        text = file.read_text()
        copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
        assert {name.split("/")[0] for line in copied for name in line.split()} <= seen
        last = re.split(r"^FROM ", text, flags=re.MULTILINE)[-1]
        user = re.findall(r"^USER (.+)$", last, re.MULTILINE)
        assert user == [] or user[-1] == "1000:1000"  # who is not named is the base's
        assert ":latest" not in text
