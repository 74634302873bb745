"""A killed run of an embedding stage goes on behind its shards, and ends with the same bits."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.store import open_location
from modalrec.encoders.hashing import Hashing, HashingConfig
from modalrec.run import Run
from modalrec.stages import _shards
from modalrec.stages import embed_image as images
from modalrec.stages import embed_text as texts
from modalrec.training import checkpoint
from tests.stages import killed_embed
from tests.stages.killed_embed import BATCHES, run_stage
from tests.stages.small import jpeg, write_dataset

TEXTS = [None if row % 9 == 0 else f"{row % 61} " + "a steel screw " * (row % 7) for row in range(70)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("resume") / "dataset", TEXTS)


@pytest.fixture(scope="module")
def whole(dataset: Path) -> Path:
    folder = dataset.parent / "whole"
    assert len(run_stage(str(dataset), str(folder), str(dataset.parent / "none"))) == BATCHES
    return folder


@pytest.fixture(scope="module")
def killed(dataset: Path) -> Path:
    """The shards of a run that SIGKILL ended at its seventh batch."""
    out, shards = dataset.parent / "killed", dataset.parent / "shards"
    command = [sys.executable, str(Path(killed_embed.__file__)), str(dataset), str(out), str(shards), "6"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    assert not out.exists()
    return shards


@pytest.fixture
def shards(killed: Path, tmp_path: Path) -> list[Path]:
    """A copy of them that a test may damage."""
    found = sorted(Path(shutil.copytree(killed, tmp_path / "shards")).rglob("shard-*"))
    assert len(found) == 6
    return found


def same(first: Path, second: Path) -> bool:
    identical = (first / "embeddings.parquet").read_bytes() == (second / "embeddings.parquet").read_bytes()
    return identical and read_manifest(first, "embeddings").digest == read_manifest(second, "embeddings").digest


@pytest.mark.fault("kill")
@pytest.mark.parametrize("batch", [0, 1, 6])
def test_a_killed_run_resumes_to_the_same_bits(
    batch: int, shards: list[Path], dataset: Path, whole: Path, tmp_path: Path
) -> None:
    for shard in shards[batch:]:
        shard.unlink()  # a run that was killed earlier has not written them
    assert len(run_stage(str(dataset), str(tmp_path / "out"), str(tmp_path / "shards"))) == BATCHES - batch
    assert same(tmp_path / "out", whole)


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "gone"])
def test_a_damaged_shard_and_all_behind_it_are_encoded_again(
    damage: str, shards: list[Path], dataset: Path, whole: Path, tmp_path: Path
) -> None:
    content = shards[2].read_bytes()
    if damage == "gone":
        shards[2].unlink()
    else:
        flipped = content[:40] + bytes([content[40] ^ 1]) + content[41:]
        shards[2].write_bytes({"truncate": content[:-4], "flip": flipped, "empty": b""}[damage])
    sizes = run_stage(str(dataset), str(tmp_path / "out"), str(tmp_path / "shards"), seconds=1e6)
    assert len(sizes) == BATCHES - 2
    assert same(tmp_path / "out", whole)
    left = sorted((tmp_path / "shards").rglob("shard-*"))
    assert left == shards[:2], "those behind it are gone"


def test_a_run_that_had_ended_encodes_nothing(dataset: Path, whole: Path, tmp_path: Path) -> None:
    """A retried pod may have lost its disk after the last batch."""
    run_stage(str(dataset), str(tmp_path / "first"), str(tmp_path / "shards"))
    assert run_stage(str(dataset), str(tmp_path / "second"), str(tmp_path / "shards")) == []
    assert same(tmp_path / "second", whole)


def test_shards_of_a_time_or_a_size_hold_many_batches(
    dataset: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shards, "SHARD_BYTES", 4 * 384 * 15)
    run_stage(str(dataset), str(tmp_path / "out"), str(tmp_path / "shards"), seconds=1e6)
    assert len(list((tmp_path / "shards").rglob("shard-*"))) == BATCHES // 3
    assert len(run_stage(str(dataset), str(tmp_path / "again"), str(tmp_path / "shards"), seconds=1e6)) == 0
    assert same(tmp_path / "again", whole)


def count(monkeypatch: pytest.MonkeyPatch, method: str) -> list[int]:
    """Notes the sizes of the batches that the hashing encoder encodes."""
    sizes: list[int] = []
    encode = getattr(Hashing, method)

    def listen(self: Hashing, contents: list) -> object:
        sizes.append(len(contents))
        return encode(self, contents)

    monkeypatch.setattr(Hashing, method, listen)
    return sizes


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("change", ["nothing", "config", "weights", "seed", "program"])
def test_shards_of_something_else_are_not_taken(
    change: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = count(monkeypatch, "encode_texts")
    for step in range(2):
        if step and change == "weights":
            monkeypatch.setattr(Hashing, "weights", "f" * 64)
        if step and change == "program":
            monkeypatch.setattr(checkpoint, "code_version", lambda: "another")
        config = texts.Config(encoder=HashingConfig(dimension=33 if step and change == "config" else 32))
        seed = int(step and change == "seed")
        run = Run(
            "embed_text", seed=seed, device="cpu", checkpoints=str(tmp_path / "s"), checkpoint_seconds=0, quiet=True
        )
        sizes.clear()
        texts.embed_text(dataset, tmp_path / f"out{step}", config=config, run=run)
        assert bool(sizes) == (step == 0 or change != "nothing")


def test_pictures_resume_in_a_bucket(
    store_env: EmbeddedStore, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {row: jpeg(colour) for row, colour in enumerate(["red", "navy", "red", "white", "black", "green"])}
    dataset = write_dataset(tmp_path / "dataset", ["a"] * 7, pictures)
    config = images.Config(encoder=HashingConfig(dimension=32), batch_size=2)
    run = Run("embed_image", device="cpu", checkpoints=f"{prefix}/checkpoints", checkpoint_seconds=0, quiet=True)
    encode = Hashing.encode_images

    def failing(self: Hashing, contents: list) -> object:
        if len(sizes) == 1:
            raise KeyboardInterrupt
        return encode(self, contents)

    sizes = count(monkeypatch, "encode_images")
    counted = Hashing.encode_images
    monkeypatch.setattr(Hashing, "encode_images", lambda self, c: failing(self, c) if sizes else counted(self, c))
    with pytest.raises(KeyboardInterrupt):
        images.embed_image(dataset, tmp_path / "cut", config=config, run=run)
    monkeypatch.setattr(Hashing, "encode_images", counted)
    sizes.clear()
    metrics = images.embed_image(dataset, tmp_path / "resumed", config=config, run=run)
    assert sizes == [2, 1]
    assert metrics["distinct"] == 5
    images.embed_image(dataset, tmp_path / "whole", config=config, run=Run("embed_image", device="cpu", quiet=True))
    assert same(tmp_path / "resumed", tmp_path / "whole")
    [place] = {name.partition("/")[0] for name in store_env.store().names(f"{prefix}/checkpoints/embed_image")}
    assert len(open_location(f"{prefix}/checkpoints/embed_image/{place}").names()) == 3
