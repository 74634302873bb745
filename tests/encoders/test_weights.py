"""Where weights come from: folders, files, buckets, the hub's cache; and what is said where they are not."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest

from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.store import Store
from modalrec.encoders._weights import digest_of, fetched
from modalrec.encoders.huggingface import HuggingFace, HuggingFaceConfig
from modalrec.errors import ArtifactError, ConfigError, UpstreamError
from tests.encoders.small import folder_of

PATTERNS = ("*.json", "*.safetensors")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub that never answers, and its empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("model", "command"),
    [
        ("org/tiny-bert", "hf download org/tiny-bert --include '*.json' --include '*.safetensors'"),
        ("org/tiny-bert@v1.0", "hf download org/tiny-bert --revision v1.0 --include '*.json'"),
    ],
)
def test_without_the_hub_the_error_says_what_to_download_where(offline: Path, model: str, command: str) -> None:
    with (
        pytest.raises(UpstreamError) as error,
        fetched(model, PATTERNS, "embed_text.encoder.model"),
    ):
        pass
    assert str(error.value).startswith(f"embed_text.encoder.model: {model} is no folder here and the hub does not give")
    assert command in str(error.value)
    assert "--local-dir models/tiny-bert`" in str(error.value)
    assert "set embed_text.encoder.model=models/tiny-bert (or s3://...)" in str(error.value)


@pytest.mark.parametrize(("revision", "name"), [("", "main"), ("@v2", "v2")])
def test_an_earlier_download_is_enough(offline: Path, revision: str, name: str) -> None:
    repository = offline / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / name).write_text("0" * 40)
    shutil.copytree(folder_of("bert"), repository / "snapshots" / ("0" * 40))
    config = HuggingFaceConfig(model=f"org/tiny{revision}")
    assert HuggingFace(config, "cpu", "text").dimension == 32


@pytest.mark.parametrize("model", ["/no/such/folder", "./models/bert", "a/b/c", "~/nothing-here", "-x", ""])
def test_what_is_neither_here_nor_a_name_of_the_hub_is_refused(offline: Path, model: str) -> None:
    with pytest.raises((ConfigError, UpstreamError)) as error, fetched(model, PATTERNS, "encoder.model") as path:
        assert path != Path(".")
    assert type(error.value) is ConfigError
    assert f"encoder.model: there is no folder or file {model!r}" in str(error.value)


def test_model_in_a_bucket(store_env: EmbeddedStore, prefix: str) -> None:
    """On a cluster without a way out, the bucket holds the models too."""
    Store.from_env().put_folder(folder_of("bert"), f"{prefix}/models/bert")
    stored, local = (
        HuggingFace(HuggingFaceConfig(model=model), "cpu", "text")
        for model in (f"{prefix}/models/bert", str(folder_of("bert")))
    )
    assert stored.weights == local.weights
    assert (stored.encode_texts(["a", "b c"]) == local.encode_texts(["a", "b c"])).all()
    with pytest.raises(ArtifactError, match="nothing"), fetched(f"{prefix}/models/none", PATTERNS, "m"):
        pass


def test_digest_is_of_the_files_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    first = digest_of(tmp_path, PATTERNS)
    (tmp_path / "tf_model.h5").write_bytes(b"the same for another library")
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "x.json").write_text("when it was downloaded")
    assert digest_of(tmp_path, PATTERNS) == first
    (tmp_path / "1_Pooling" / "config.json").write_text('{"a": 1}')
    assert digest_of(tmp_path, PATTERNS) != first
    assert digest_of(tmp_path / "model.safetensors", PATTERNS) != first
