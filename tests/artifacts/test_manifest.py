import json
from pathlib import Path

import pytest

from modalrec.artifacts import Manifest, code_version, read_manifest, write_artifact
from modalrec.config import Config
from modalrec.errors import ArtifactError, TrainingError


class Settings(Config):
    levels: int = 3


def write(folder: Path, kind: str = "codes", seed: int = 0, levels: int = 3, **inputs: Manifest) -> Manifest:
    config = Settings(levels=levels)
    with write_artifact(folder, kind, stage="quantize", config=config, seed=seed, inputs=inputs) as work:
        (work.folder / "images").mkdir()
        (work.folder / "images" / "part-0.parquet").write_bytes(b"12345")
        (work.folder / "codes.parquet").write_bytes(b"123")
        work.statistics["items"] = 7
    return read_manifest(folder, kind)


def change(folder: Path, **fields: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_manifest_says_what_how_and_of_what(tmp_path: Path) -> None:
    embeddings = write(tmp_path / "embeddings", "embeddings")
    codes = write(tmp_path / "codes", seed=5, embeddings=embeddings)
    assert (codes.kind, codes.stage, codes.seed, codes.config) == ("codes", "quantize", 5, {"levels": 3})
    assert set(codes.files) == {"codes.parquet", "images/part-0.parquet"}
    assert codes.inputs == {"embeddings": embeddings.digest}
    assert codes.statistics == {"items": 7}
    assert codes.cost["peak_memory_mib"] > 10
    model = write(tmp_path / "model", "model", codes=codes)
    assert set(model.lineage) == {codes.digest, embeddings.digest}
    assert model.lineage[codes.digest].inputs == {"embeddings": embeddings.digest}


def test_the_digest_covers_content_and_not_cost(tmp_path: Path) -> None:
    first, again = write(tmp_path / "a"), write(tmp_path / "b")
    assert first.digest == again.digest
    others = [write(tmp_path / "c", seed=1), write(tmp_path / "d", levels=4), write(tmp_path / "e", codes=first)]
    assert len({first.digest, *(other.digest for other in others)}) == 4


@pytest.mark.fault("atomic")
def test_a_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with write_artifact(tmp_path / "codes", "codes", stage="s", config=Settings(), seed=0, inputs={}) as work:
            (work.folder / "half").write_bytes(b"1")
            raise TrainingError("the loss is not finite")

    with pytest.raises(TrainingError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_is_not_overwritten(tmp_path: Path) -> None:
    first = write(tmp_path / "codes")
    with pytest.raises(ArtifactError, match="exists and is not empty; remove it"):
        write(tmp_path / "codes", seed=1)
    assert read_manifest(tmp_path / "codes", "codes") == first
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="exists"):
        write(tmp_path / "file")


@pytest.mark.fault("damaged")
def test_another_kind_or_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "codes")
    with pytest.raises(ArtifactError, match=r"of kind `codes` \(made by quantize\), `model` is needed here"):
        read_manifest(tmp_path / "codes", "model")
    monkeypatch.setitem(__import__("modalrec.artifacts.manifest").artifacts.manifest.SCHEMA_VERSIONS, "codes", 2)
    with pytest.raises(ArtifactError, match="schema version 1 of `codes`, this modalrec reads 2; run `quantize` again"):
        read_manifest(tmp_path / "codes", "codes")


@pytest.mark.fault("damaged")
def test_damage_is_found_and_the_file_named(tmp_path: Path) -> None:
    folder = tmp_path / "codes"
    write(folder)
    (folder / "codes.parquet").write_bytes(b"124")
    with pytest.raises(ArtifactError, match=r"codes.parquet: damaged, its SHA-256.*run `quantize` again"):
        read_manifest(folder, "codes")
    read_manifest(folder, "codes", verify=False)
    (folder / "codes.parquet").write_bytes(b"1")
    with pytest.raises(ArtifactError, match=r"codes.parquet: has 1 bytes instead of 3"):
        read_manifest(folder, "codes", verify=False)
    (folder / "codes.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"codes.parquet: is missing"):
        read_manifest(folder, "codes")


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"kind": "codes"}', "[" * 100_000, "\x00"])
def test_a_file_that_is_no_manifest_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest.json: not a manifest; run the stage that makes `codes` again"):
        read_manifest(tmp_path, "codes")


@pytest.mark.fault("damaged")
def test_a_manifest_that_was_edited_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "codes")
    change(tmp_path / "codes", config={"levels": 4})
    with pytest.raises(ArtifactError, match="changed after it was written"):
        read_manifest(tmp_path / "codes", "codes")


@pytest.mark.fault("damaged")
def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "codes"
    manifest = write(folder)
    (tmp_path / "secret").write_bytes(b"123")
    forged = manifest.model_copy(update={"files": {"../secret": manifest.files["codes.parquet"]}})
    change(folder, files=forged.model_dump()["files"], digest=forged.identity())
    with pytest.raises(ArtifactError, match=r"names '../secret', outside the folder"):
        read_manifest(folder, "codes")


@pytest.mark.fault("damaged")
def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no manifest.json; give the output folder of the stage that makes"):
        read_manifest(tmp_path, "codes")
    with pytest.raises(ArtifactError, match="is not a folder"):
        read_manifest(tmp_path / "nowhere", "codes")


@pytest.mark.fault("damaged")
def test_a_changed_program_is_another_code_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_version()
    assert before.startswith("0.")
    (tmp_path / "__init__.py").write_text("x = 1\n")
    monkeypatch.setattr("modalrec.__file__", str(tmp_path / "__init__.py"))
    code_version.cache_clear()
    try:
        changed = code_version()
        (tmp_path / "__init__.py").write_text("x = 2\n")
        code_version.cache_clear()
        assert len({before, changed, code_version()}) == 3
    finally:
        code_version.cache_clear()
