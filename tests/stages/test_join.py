"""Embedding in parts: what the parts join to is what one stage makes of all items."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.embeddings import NAME
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError
from modalrec.run import Run
from modalrec.stages import load_stage
from modalrec.stages.join import join
from tests.cli.conftest import Cli, cli
from tests.stages.small import jpeg, write_dataset

__all__ = ["cli"]

TEXTS = [
    "A red kettle. It boils.",
    None,
    "A red kettle. It boils.",
    " ",
    "Blue mug.",
    "Garden hose. Ten metres. Green.",
]
RUN = Run("embed_text", seed=1, device="cpu", quiet=True)
HASHING = {"encoder": {"name": "hashing", "dimension": 16}}


def embed(dataset: Path, folder: Path, stage: str = "embed_text", **settings: Any) -> Path:
    function, config = load_stage(stage)
    function(dataset, folder, config=resolve(config, HASHING, settings), run=RUN)
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", TEXTS, {1: jpeg("red"), 4: jpeg("blue")})


@pytest.mark.parametrize("settings", [{}, {"max_sentences": 3}], ids=["vectors", "lists"])
@pytest.mark.parametrize("parts", [1, 2, 3, 6, 8])
def test_the_parts_are_the_whole(dataset: Path, tmp_path: Path, parts: int, settings: dict[str, int]) -> None:
    """In any order; also parts whose items have no text, and more parts than items."""
    whole = embed(dataset, tmp_path / "whole", **settings)
    made = [embed(dataset, tmp_path / f"part-{n}", part=n, parts=parts, **settings) for n in range(parts)]
    numbers = join(made[::-1], tmp_path / "joined", run=RUN)
    joined, wanted = read_manifest(tmp_path / "joined", "embeddings"), read_manifest(whole, "embeddings")
    assert pq.read_table(tmp_path / "joined" / NAME).equals(pq.read_table(whole / NAME))
    for name in ("stage", "config", "inputs", "lineage", "seed", "code_version"):
        assert getattr(joined, name) == getattr(wanted, name)
    known = {name: value for name, value in wanted.statistics.items() if name != "distinct"}
    assert {name: value for name, value in joined.statistics.items() if name != "distinct"} == known
    assert numbers["present"] == 4
    if parts == 1:
        assert joined.statistics == wanted.statistics


def test_what_is_no_whole_is_refused(dataset: Path, tmp_path: Path) -> None:
    parts = [embed(dataset, tmp_path / f"part-{n}", part=n, parts=3) for n in range(3)]
    for given, said in (
        (parts[:2], "parts 0, 1 are given, and 0 to 2"),
        ([*parts, parts[1]], "parts 0, 1, 1, 2"),
        ([], "none"),
    ):
        with pytest.raises(ArtifactError, match=said):
            join(given, tmp_path / "joined", run=RUN)
    other = embed(dataset, tmp_path / "other", part=1, parts=3, encoder={"name": "hashing", "dimension": 8})
    with pytest.raises(ArtifactError, match="the settings of part 1 is another one"):
        join([parts[0], other, parts[2]], tmp_path / "joined", run=RUN)
    elsewhere = embed(write_dataset(tmp_path / "two", TEXTS[::-1]), tmp_path / "far", part=1, parts=3)
    with pytest.raises(ArtifactError, match="the dataset of part 1"):
        join([parts[0], elsewhere, parts[2]], tmp_path / "joined", run=RUN)
    assert not (tmp_path / "joined").exists()


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="part: 2 is none of 2 parts"):
        resolve(load_stage("embed_text")[1], {"part": 2, "parts": 2})


def test_the_command_joins(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    parts = [embed(dataset, tmp_path / f"part-{n}", part=n, parts=2) for n in range(2)]
    code, out, err = cli("join", *parts, "--embeddings", tmp_path / "joined")
    assert code == 0, err
    assert "items=6" in out
    assert read_manifest(tmp_path / "joined", "embeddings").statistics["present"] == 4
