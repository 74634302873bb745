"""Killed at any fsync or rename of `join` and `compare`: no artifact or a whole one, and then the same."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from modalrec.artifacts import read_manifest
from modalrec.config import resolve
from modalrec.errors import ArtifactError
from modalrec.run import Run
from modalrec.stages import load_stage
from modalrec.stages.compare import Config, compare
from modalrec.stages.join import join
from tests.faults.processes import Moments, in_child
from tests.stages.small import write_dataset
from tests.stages.trained import ingest, run_stage

KINDS = {"join": "embeddings", "compare": "comparison"}
MEASURED = {"list_length": 12, "cutoffs": [1, 5, 10], "gallery_users": 2, "bootstrap_samples": 100}
MOST = 12
"""Moments at which one is killed at most."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts of an embedding, and a measured model."""
    folder = tmp_path_factory.mktemp("together")
    items = write_dataset(folder / "items", ["A red kettle.", "Blue mug.", "Garden hose.", None], {})
    function, config = load_stage("embed_text")
    for part in range(2):
        chosen = resolve(config, {"encoder": {"name": "hashing", "dimension": 16}, "part": part, "parts": 2})
        function(items, folder / f"part-{part}", config=chosen, run=Run("embed_text", quiet=True))
    dataset = ingest(folder)
    model = {"name": "sasrec", "width": 8, "heads": 2, "layers": 1, "history": 8}
    settings = {"recommender": model, "training": {"epochs": 1}}
    run_stage("finetune", settings, dataset=dataset, model=folder / "model")
    run_stage("evaluate", MEASURED, dataset=dataset, model=folder / "model", evaluation=folder / "measured")
    return folder


def put_together(kind: str, inputs: Path, target: Path) -> None:
    run = Run(kind, quiet=True)
    if kind == "join":
        join([inputs / "part-0", inputs / "part-1"], target, run=run)
    else:
        config = resolve(Config, {"bootstrap_samples": 100, "names": ["a", "b"]})
        compare([inputs / "measured", inputs / "measured"], inputs / "dataset", target, config=config, run=run)


def until(kind: str, inputs: Path, target: Path, at: int) -> None:
    """Puts together, and is killed at a moment; one that is not notes how many there were."""
    moments = Moments(at).watch()
    put_together(kind, inputs, target)
    target.with_name("count").write_text(str(moments.count))


@pytest.mark.fault("atomic")
@pytest.mark.parametrize("kind", KINDS)
def test_what_puts_artifacts_together_makes_all_or_nothing(
    kind: str, inputs: Path, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    assert in_child(until, kind, inputs, tmp_path / "whole", 0) == 0
    found = read_manifest(tmp_path / "whole", KINDS[kind])
    count = int((tmp_path / "count").read_text())
    moments = sorted({1 + number * count // MOST for number in range(MOST)} & set(range(1, count + 1)))
    for at in moments:
        target = tmp_path / f"killed-{at}"
        assert in_child(until, kind, inputs, target, at) == -signal.SIGKILL
        try:
            assert read_manifest(target, KINDS[kind]).files == found.files
        except ArtifactError:
            assert not target.exists()
            put_together(kind, inputs, target)
        assert read_manifest(target, KINDS[kind]).digest == found.digest
    assert len(moments) >= 3
    record_property("cases", len(moments))
