"""`upload`: raw files reach a bucket, and what is there is never replaced."""

from pathlib import Path

from modalrec.artifacts.embedded import EmbeddedStore
from tests.cli.conftest import Cli


def test_files_are_uploaded_once(cli: Cli, tmp_path: Path, store_env: EmbeddedStore) -> None:
    (tmp_path / "films" / "posters").mkdir(parents=True)
    (tmp_path / "films" / "movies.csv").write_text("1")
    (tmp_path / "films" / "posters" / "1.jpg").write_text("2")
    place = "s3://another-bucket/raw/films"
    code, _, said = cli("upload", tmp_path / "films", place)
    assert (code, "2 files" in said) == (0, True)
    assert store_env.store().names(place) == ["movies.csv", "posters/1.jpg"]

    code, _, said = cli("upload", tmp_path / "films", place)
    assert code == 2
    assert "holds 2 files already (first: movies.csv)" in said


def test_a_folder_without_files_is_refused(cli: Cli, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        code, _, said = cli("upload", folder, "s3://bucket/raw")
        assert code == 3
        assert "no folder with files" in said
