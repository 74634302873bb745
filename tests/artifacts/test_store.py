import os
from pathlib import Path

import pytest

from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.faults import ObjectMissing
from modalrec.artifacts.s3 import Store, split_uri
from modalrec.artifacts.store import delivered, localized, open_location, remove
from modalrec.errors import ArtifactError, ConfigError, TrainingError, UpstreamError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "codes"
    (folder / "images").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "codes.parquet").write_bytes(os.urandom(1000))
    (folder / "images" / "part-0.parquet").write_bytes(os.urandom(6 << 20))  # more than one part of an upload
    (folder / "empty").write_bytes(b"")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_back_as_it_went(embedded: EmbeddedStore, folder: Path, prefix: str, tmp_path: Path) -> None:
    store = embedded.store()
    store.put_folder(folder, f"{prefix}/codes")
    store.get_folder(f"{prefix}/codes/", tmp_path / "back")
    assert content(tmp_path / "back") == content(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "codes"]


def test_the_manifest_goes_last(embedded: EmbeddedStore, folder: Path, prefix: str) -> None:
    (folder / "zebra").write_bytes(b"1")
    store = embedded.store()
    sent: list[str] = []
    plain_put = store.put_file
    store.put_file = lambda path, uri: (sent.append(path.name), plain_put(path, uri))[1]  # type: ignore[method-assign]
    store.put_folder(folder, prefix)
    assert sent[-1] == "manifest.json"
    assert len(sent) == 5


def test_a_second_upload_leaves_nothing_of_the_first(embedded: EmbeddedStore, folder: Path, prefix: str) -> None:
    store = embedded.store()
    store.put_folder(folder, prefix)
    (folder / "codes.parquet").unlink()
    store.put_folder(folder, prefix)
    assert store.names(prefix) == ["empty", "images/part-0.parquet", "manifest.json"]
    store.delete_folder(prefix)
    assert store.names(prefix) == []


def test_names_are_those_of_the_folder_and_no_other(embedded: EmbeddedStore, prefix: str) -> None:
    store = embedded.store()
    store.put_bytes(f"{prefix}/model/a", b"1")
    store.put_bytes(f"{prefix}/model_2/b", b"2")
    assert store.names(f"{prefix}/model") == ["a"]
    assert store.exists(f"{prefix}/model/a")
    assert not store.exists(f"{prefix}/model/b")


@pytest.mark.fault("store")
@pytest.mark.parametrize("key", ["../../evil", "/evil", "a/../../evil", "a\\..\\evil", "a//b", "whole/part"])
def test_keys_that_do_not_fit_into_a_folder_are_refused(key: str, embedded: EmbeddedStore, tmp_path: Path) -> None:
    class Odd(Store):  # SeaweedFS stores no such keys, other stores do
        def names(self, uri: str) -> list[str]:
            return ["whole", key]

    with pytest.raises(ArtifactError, match="does not fit"):
        Odd.from_env(embedded.env()).get_folder("s3://modalrec/x", tmp_path / "back")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_said_to_be_missing(embedded: EmbeddedStore, prefix: str, tmp_path: Path) -> None:
    store = embedded.store()
    with pytest.raises(ObjectMissing, match=f"{prefix}/nothing: nothing is stored there"):
        store.get_bytes(f"{prefix}/nothing")
    with pytest.raises(ArtifactError, match="run the stage that makes it"):
        store.get_folder(prefix, tmp_path / "back")
    with pytest.raises(ArtifactError, match="no file to upload"):
        store.put_folder(tmp_path / "nowhere", prefix)


def test_a_full_local_folder_is_not_overwritten(embedded: EmbeddedStore, folder: Path, prefix: str) -> None:
    store = embedded.store()
    store.put_bytes(f"{prefix}/a", b"1")
    before = content(folder)
    with pytest.raises(ArtifactError, match="exists and is not empty"):
        store.get_folder(prefix, folder)
    assert content(folder) == before


def test_missing_variables_are_named_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"AWS_ENDPOINT_URL.*AWS_SECRET_ACCESS_KEY.*on a cluster they come from"):
        Store.from_env({"AWS_ACCESS_KEY_ID": "a"})


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "ftp://host", "http://", "http://host/path"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="write it as http"):
        Store(endpoint, "a", "b")


def test_uris() -> None:
    assert split_uri("s3://bucket/a/b/") == ("bucket", "a/b")
    assert split_uri("s3://bucket") == ("bucket", "")
    for wrong in ("s3://", "/bucket/key", "s3:/bucket/key"):
        with pytest.raises(ConfigError, match="write it as s3"):
            split_uri(wrong)


def test_a_bucket_name_that_cannot_be_is_refused(embedded: EmbeddedStore) -> None:
    with pytest.raises(ConfigError, match="invalid bucket name"):
        embedded.store().put_bytes("s3://B/x", b"1")


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_locations_behave_alike(kind: str, store_env: EmbeddedStore, prefix: str, tmp_path: Path) -> None:
    uri = str(tmp_path / "checkpoints") if kind == "folder" else f"{prefix}/checkpoints"
    location = open_location(uri)
    assert location.get("last") is None
    assert location.names() == []
    location.put("last", b"one")
    location.put("last", b"two")
    location.put("best", b"")
    assert (location.get("last"), location.get("best"), location.names()) == (b"two", b"", ["best", "last"])
    location.delete("last")
    location.delete("last")
    assert location.names() == ["best"]
    remove(uri)
    assert open_location(uri).names() == []


def test_inputs_are_brought_here(store_env: EmbeddedStore, folder: Path, prefix: str) -> None:
    with localized(str(folder)) as path:
        assert path == folder
    store_env.store().put_folder(folder, f"{prefix}/codes")
    with localized(f"{prefix}/codes") as path:
        assert content(path) == content(folder)
    assert not path.exists()
    with localized(f"{prefix}/codes/codes.parquet") as path:
        assert path.name == "codes.parquet"
        assert path.read_bytes() == (folder / "codes.parquet").read_bytes()


def test_outputs_are_taken_away_only_when_whole(store_env: EmbeddedStore, prefix: str) -> None:
    def failing_stage() -> None:
        with delivered(f"{prefix}/codes") as path:
            path.mkdir()
            (path / "a").write_bytes(b"1")
            raise TrainingError("the loss is not finite")

    with pytest.raises(TrainingError):
        failing_stage()
    assert store_env.store().names(prefix) == []
    store_env.store().put_bytes(f"{prefix}/codes/left", b"of an upload that was cut off")
    with delivered(f"{prefix}/codes") as path:
        path.mkdir()
        (path / "manifest.json").write_bytes(b"1")
    assert store_env.store().names(prefix) == ["codes/manifest.json"]
    with pytest.raises(ArtifactError, match="an artifact is stored there already"), delivered(f"{prefix}/codes"):
        raise AssertionError("no work before the refusal")


def test_a_taken_output_folder_is_refused_before_the_work(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="exists and is not empty"), delivered(str(folder)):
        raise AssertionError("no work before the refusal")


def test_other_keys_and_no_keys_are_refused(embedded: EmbeddedStore, prefix: str) -> None:
    embedded.store().put_bytes(f"{prefix}/a", b"1")
    env = embedded.env()
    for name, value in (("AWS_SECRET_ACCESS_KEY", "wrong" * 8), ("AWS_ACCESS_KEY_ID", "nobody")):
        with pytest.raises(UpstreamError, match=r"refuses these keys.*check AWS_ACCESS_KEY_ID"):
            Store.from_env({**env, name: value}).put_bytes(f"{prefix}/a", b"2")
    assert embedded.store().get_bytes(f"{prefix}/a") == b"1"
