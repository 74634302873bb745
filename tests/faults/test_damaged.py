"""Artifacts and checkpoints that are truncated, flipped, exchanged, or of another schema version."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modalrec.artifacts import Manifest, manifest, read_manifest
from modalrec.errors import ArtifactError
from modalrec.quantizers.rqvae import RQVAEConfig
from modalrec.run import Run
from modalrec.stages.quantize import Config
from modalrec.training import checkpoint
from modalrec.training.checkpoint import Checkpoints, fingerprint
from tests.faults.tiny import run_tiny, write_inputs

KINDS = {"dataset": "dataset", "codes": "codes", "embeddings": "embeddings", "model": "out"}
DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "half": lambda content: content[: len(content) // 2],
    "last byte": lambda content: content[:-1],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\n",
    "first bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "bit in the middle": lambda content: _flip(content, len(content) // 2),
    "last bit": lambda content: content[:-1] + bytes([content[-1] ^ 128]),
    "gone": lambda content: None,
}
FORGED: dict[str, dict[str, Any]] = {
    "older version": {"schema_version": 0},
    "newer version": {"schema_version": 2},
    "no version": {"schema_version": None},
    "another kind": {"kind": "evaluation"},
    "unknown kind": {"kind": "eval"},
    "unknown field": {"extra": 1},
    "another config": {"config": {"levels": 9}},
    "another input": {"inputs": {"dataset": "0" * 64}},
    "another program": {"code_version": "0"},
    "no digest": {"digest": ""},
}


def _flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, codes, embeddings and a model (`out`) as their stages write them."""
    folder = write_inputs(tmp_path_factory.mktemp("damaged"))
    run_tiny("finetune sasrec", folder, folder)
    return folder


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", KINDS)
def test_every_damaged_file_of_an_artifact_is_found_and_named(
    kind: str, damage: str, artifacts: Path, record_property: Callable[..., None]
) -> None:
    folder = artifacts / KINDS[kind]
    names = [name for name, file in read_manifest(folder, kind).files.items() if file.bytes]
    for name in names:
        content = (folder / name).read_bytes()
        hurt = DAMAGE[damage](content)
        try:
            (folder / name).unlink() if hurt is None else (folder / name).write_bytes(hurt)
            with pytest.raises(ArtifactError, match=rf"{name}: .*run `\w+` again"):
                read_manifest(folder, kind)
        finally:
            (folder / name).write_bytes(content)
    read_manifest(folder, kind)
    record_property("cases", len(names))


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("kind", ["codes", "model"])
def test_a_manifest_of_something_else_is_refused(kind: str, forged: str, artifacts: Path, tmp_path: Path) -> None:
    """As it is, and with a digest that fits where it is the schema or the kind that must tell."""
    plain = json.loads((artifacts / KINDS[kind] / "manifest.json").read_text()) | FORGED[forged]
    (tmp_path / "manifest.json").write_text(json.dumps(plain))
    with pytest.raises(ArtifactError, match=r"not a manifest|changed after it was written"):
        read_manifest(tmp_path, kind)
    if forged.endswith(("version", "kind")) and forged != "no version":
        fitting = Manifest.model_validate(plain)
        (tmp_path / "manifest.json").write_text(json.dumps(plain | {"digest": fitting.identity()}))
        with pytest.raises(ArtifactError, match=r"schema version \d of|is of kind"):
            read_manifest(tmp_path, kind)


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    """Two checkpoints."""
    checkpoints = Checkpoints(Run("quantize", checkpoints=str(tmp_path), quiet=True), "f" * 64)
    for step in (1, 2):
        checkpoints.save(step, 0, {"step": step, "weights": torch.full((200,), float(step))})
    return checkpoints


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("how", ["flip", "cut"])
def test_the_checkpoint_before_a_damaged_one_is_used_and_none_where_both_are(
    how: str, place: float, kept: Checkpoints, tmp_path: Path
) -> None:
    before, newest = sorted(tmp_path.rglob("step-*.pt"))
    for path, left in ((newest, 1), (before, None)):
        content = path.read_bytes()
        at = int(place * (len(content) - 1))
        path.write_bytes(_flip(content, at) if how == "flip" else content[:at])
        found = kept.load()
        assert (found and found["step"]) == left
        assert not path.exists(), "it would take the place of a whole one"
    kept.save(3, 0, {"step": 3})
    assert kept.load() == {"step": 3}


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("other", ["config", "seed", "stage", "input", "program", "kind of quantizer"])
def test_a_checkpoint_of_another_run_is_another_place(
    other: str, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, embeddings = (read_manifest(artifacts / kind, kind) for kind in ("codes", "embeddings"))
    mine = fingerprint("quantize", Config(), 0, {"embeddings": embeddings})
    if other == "program":
        monkeypatch.setattr(checkpoint, "code_version", lambda: "another")
    config = {"config": Config(valid_share=0.2), "kind of quantizer": Config(quantizer=RQVAEConfig(levels=7))}
    theirs = fingerprint(
        "finetune" if other == "stage" else "quantize",
        config.get(other, Config()),
        int(other == "seed"),
        {"embeddings": codes if other == "input" else embeddings},
    )
    assert mine != theirs


@pytest.mark.guard("damaged")
def test_without_the_digest_of_files_a_flipped_bit_passes(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {file.bytes: file.sha256 for file in read_manifest(artifacts / "codes", "codes").files.values()}
    monkeypatch.setattr(manifest, "sha256_file", lambda path: digests[path.stat().st_size])
    path = artifacts / "codes" / "codes.parquet"
    content = path.read_bytes()
    path.write_bytes(DAMAGE["bit in the middle"](content) or b"")
    try:
        read_manifest(artifacts / "codes", "codes")
    finally:
        path.write_bytes(content)


@pytest.mark.guard("damaged")
def test_without_its_digest_a_flipped_checkpoint_is_taken(kept: Checkpoints, tmp_path: Path) -> None:
    """A digest of the damaged content in the name is as good as no check."""
    newest = max(tmp_path.rglob("step-*.pt"))
    content = newest.read_bytes()
    place = content.index(torch.full((200,), 2.0).numpy().tobytes()) + 400
    hurt = _flip(content, place)
    newest.unlink()
    forged = f"{newest.name.rpartition('-')[0]}-{checkpoint.hashlib.sha256(hurt).hexdigest()}.pt"
    newest.with_name(forged).write_bytes(hurt)
    found = kept.load()
    assert found is not None
    assert not (found["weights"] == 2).all()
