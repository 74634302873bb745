from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.embeddings import load
from modalrec.config import resolve
from modalrec.data import texts as texts_of_items
from modalrec.data.texts import WINDOW, load_texts
from modalrec.encoders.hashing import Hashing, HashingConfig
from modalrec.encoders.minilm import MiniLM, MiniLMConfig
from modalrec.errors import ArtifactError, ConfigError, UpstreamError
from modalrec.run import Run
from modalrec.stages.embed_text import Config, embed_text
from modalrec.stages.embedding import resolve_precision
from modalrec.testing.openai_server import served
from tests.encoders.small import folder_of
from tests.stages.small import write_dataset

RUN = Run("embed_text", seed=7, device="cpu", quiet=True)
SMALL = Config(encoder=HashingConfig(dimension=32), batch_size=2)
TEXTS = [
    "a long text about war and peace",
    None,
    "heat",
    "",
    " \n",
    "heat",
    "casino royale",
    "a long text about war and peace",
]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", TEXTS)


def test_vectors_in_the_datasets_order_missing_ones_zero(dataset: Path, tmp_path: Path) -> None:
    metrics = embed_text(dataset, tmp_path / "text", config=SMALL, run=RUN)
    item_ids, present, vectors = load(tmp_path / "text")
    assert item_ids.tolist() == [f"a{row}" for row in range(8)]
    assert present.tolist() == [True, False, True, False, False, True, True, True]
    alone = Hashing(HashingConfig(dimension=32), "cpu")
    for row, text in enumerate(TEXTS):
        expected = alone.encode_texts([text])[0] if present[row] and text else np.zeros(32)
        np.testing.assert_allclose(vectors[row], expected, atol=1e-6)
    assert metrics == {"items": 8, "present": 5, "missing": 3, "distinct": 3, "dimension": 32}


def test_manifest_tells_what_was_done(dataset: Path, tmp_path: Path) -> None:
    metrics = embed_text(dataset, tmp_path / "text", config=SMALL, run=RUN)
    manifest = read_manifest(tmp_path / "text", "embeddings")
    assert manifest.inputs == {"dataset": read_manifest(dataset, "dataset").digest}
    assert manifest.statistics == {**metrics, "encoder": "hashing", "precision": "float32"}
    assert resolve(Config, manifest.config) == SMALL
    assert list(manifest.files) == ["embeddings.parquet"]


def test_each_distinct_text_is_encoded_once(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    encode = Hashing.encode_texts

    def listen(self: Hashing, texts: list[str]) -> np.ndarray:
        seen.append(texts)
        return encode(self, texts)

    monkeypatch.setattr(Hashing, "encode_texts", listen)
    embed_text(dataset, tmp_path / "text", config=SMALL, run=RUN)
    assert seen == [["heat", "casino royale"], ["a long text about war and peace"]]


def test_same_again_has_the_same_identity(dataset: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        embed_text(dataset, tmp_path / name, config=SMALL, run=RUN)
    first, second = (read_manifest(tmp_path / name, "embeddings") for name in ("first", "second"))
    assert first.digest == second.digest


def test_more_items_than_a_window(tmp_path: Path) -> None:
    """Duplicates are found across windows, and rows stay in place."""
    texts = [None if row % 7 == 0 else f"film number {row % (WINDOW + 100)}" for row in range(2 * WINDOW + 50)]
    dataset = write_dataset(tmp_path / "dataset", texts)
    metrics = embed_text(dataset, tmp_path / "text", config=SMALL, run=RUN)
    assert metrics["distinct"] == len({text for text in texts if text})
    assert metrics["missing"] == texts.count(None)
    _, _, vectors = load(tmp_path / "text")
    rows = [row for row in (1, WINDOW - 2, WINDOW + 99, WINDOW + 102, 2 * WINDOW + 48) if texts[row]]
    assert len(rows) >= 4
    expected = Hashing(HashingConfig(dimension=32), "cpu").encode_texts([texts[row] or "" for row in rows])
    np.testing.assert_allclose(vectors[rows], expected, atol=1e-6)


def test_default_encoder_is_minilm(dataset: Path, tmp_path: Path) -> None:
    metrics = embed_text(dataset, tmp_path / "text", config=resolve(Config), run=RUN)
    assert metrics["dimension"] == 384
    _, present, vectors = load(tmp_path / "text")
    expected = MiniLM(MiniLMConfig(), "cpu").encode_texts(["heat"])[0]
    np.testing.assert_allclose(vectors[2], expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), present, atol=1e-5)


def test_encoder_of_pictures_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"encoder.*'efficientnet' does not encode text; use one of hashing, huggingface, minilm, o"
    ):
        resolve(Config, {"encoder": {"name": "efficientnet"}})


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.full((2, 32), np.nan, np.float32), "vector of item 'a2' is not finite"),
        (np.zeros((2, 31), np.float32), r"shape \(2, 31\) instead of \(2, 32\) for the batch with item 'a2'"),
        (np.zeros((1, 32), np.float32), r"shape \(1, 32\) instead of \(2, 32\)"),
    ],
    ids=["not finite", "too narrow", "too few"],
)
def test_bad_vectors_are_refused_and_leave_nothing(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: np.ndarray, message: str
) -> None:
    monkeypatch.setattr(Hashing, "encode_texts", lambda self, texts: result)
    with pytest.raises(UpstreamError, match=message):
        embed_text(dataset, tmp_path / "text", config=SMALL, run=RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_other_kinds_of_artifact_are_refused(dataset: Path, tmp_path: Path) -> None:
    embed_text(dataset, tmp_path / "text", config=SMALL, run=RUN)
    with pytest.raises(ArtifactError, match="`dataset` is needed here"):
        embed_text(tmp_path / "text", tmp_path / "again", config=SMALL, run=RUN)


def test_long_texts_close_a_window_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by characters too; every text is in one window, whatever closes it."""
    monkeypatch.setattr(texts_of_items, "WINDOW", 64)
    monkeypatch.setattr(texts_of_items, "WINDOW_CHARACTERS", 1000)
    texts = [f"{row} {'x' * (500 if row < 20 else 1)}" for row in range(200)]
    windows = list(load_texts(write_dataset(tmp_path / "dataset", texts)))
    assert [text for _, window in windows for text in window] == texts
    assert np.concatenate([rows for rows, _ in windows]).tolist() == list(range(200))
    assert max(len(window) for _, window in windows) <= 64
    assert max(sum(map(len, window)) for _, window in windows) < 1000 + 4 * 510
    assert len(windows) > 200 // 64 + 2


def test_dataset_without_texts_needs_no_weights(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", [None, " "])
    config = resolve(Config, {"encoder": {"name": "huggingface", "model": "no-such/model"}})
    metrics = embed_text(dataset, tmp_path / "text", config=config, run=RUN)
    assert metrics == {"items": 2, "present": 0, "missing": 2, "distinct": 0, "dimension": 1}


@pytest.mark.parametrize(
    ("settings", "folder", "dimension"),
    [
        ({"name": "huggingface", "preset": "bert"}, "bert", 32),
        ({"name": "huggingface", "preset": "sentence_t5"}, "t5", 24),
        ({"name": "huggingface", "preset": "qwen3_embedding", "prefix": "Item: "}, "qwen", 32),
        ({"name": "huggingface", "preset": "clip"}, "clip", 24),
        ({"name": "open_clip"}, "open_clip", 24),
    ],
)
def test_models_in_folders_from_end_to_end(
    dataset: Path, tmp_path: Path, settings: dict, folder: str, dimension: int
) -> None:
    config = resolve(Config, {"encoder": {**settings, "model": str(folder_of(folder))}, "precision": "bfloat16"})
    metrics = embed_text(dataset, tmp_path / "text", config=config, run=RUN)
    assert metrics == {"items": 8, "present": 5, "missing": 3, "distinct": 3, "dimension": dimension}
    manifest = read_manifest(tmp_path / "text", "embeddings")
    assert resolve(Config, manifest.config) == config
    assert manifest.statistics["precision"] == "bfloat16"
    _, present, vectors = load(tmp_path / "text")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), present, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "device", "bfloat16", "expected"),
    [
        ("auto", "cpu", True, "float32"),
        ("auto", "cuda", True, "bfloat16"),
        ("auto", "cuda:1", False, "float16"),
        ("float32", "cuda", True, "float32"),
        ("bfloat16", "cpu", False, "bfloat16"),
    ],
)
def test_half_precision_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, bfloat16: bool, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: bfloat16)
    assert resolve_precision(precision, device) == expected


def test_a_modality_that_is_skipped_counts_as_missing_and_loads_nothing(dataset: Path, tmp_path: Path) -> None:
    config = resolve(Config, {"encoder": {"name": "huggingface", "model": "nobody/has-this"}, "skip": True})
    found = embed_text(dataset, tmp_path / "text", config=config, run=RUN)
    assert (found["present"], found["dimension"]) == (0, 1)
    assert read_manifest(tmp_path / "text", "embeddings").statistics["encoder"] == "none"


def test_the_server_is_told_of_all_texts_before_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_of_items, "WINDOW", 16)
    dataset = write_dataset(tmp_path / "dataset", [None if row == 3 else f"film {row % 40}" for row in range(60)])
    run = Run("embed_text", device="cpu", quiet=True, checkpoints=str(tmp_path / "checkpoints"))
    with served() as server:
        encoder = {"name": "openai", "base_url": server.url, "model": "own", "dimensions": 16, "max_tokens": 149}
        with pytest.raises(ConfigError, match=r"40 texts have about 150 tokens, .* above 149; set it to 150"):
            embed_text(dataset, tmp_path / "out", config=resolve(Config, {"encoder": encoder}), run=run)
        assert not (tmp_path / "out").exists()
        encoder["max_tokens"] = 150
        metrics = embed_text(dataset, tmp_path / "out", config=resolve(Config, {"encoder": encoder}), run=run)
        again = embed_text(dataset, tmp_path / "again", config=resolve(Config, {"encoder": encoder}), run=run)
        assert max(server.paid.values()) == 1
    assert (metrics["items"], metrics["present"], metrics["distinct"], metrics["dimension"]) == (60, 59, 40, 16)
    assert (metrics["paid_texts"], again["paid_texts"]) == (40, 0)
    digests = {read_manifest(tmp_path / name, "embeddings").digest for name in ("out", "again")}
    assert len(digests) == 1, "what was paid is no part of what was made"


def test_the_fallback_encodes_where_the_key_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    dataset = write_dataset(tmp_path / "dataset", ["a", "b"])
    settings = {"encoder": {"name": "openai"}, "fallback": {"name": "hashing", "dimension": 8}}
    run = Run("embed_text", device="cpu")
    embed_text(dataset, tmp_path / "out", config=resolve(Config, settings), run=run)
    assert "openai: OPENAI_API_KEY is not set; the fallback hashing encodes instead" in capsys.readouterr().err
    manifest = read_manifest(tmp_path / "out", "embeddings")
    assert manifest.config["encoder"] == {"name": "hashing", "dimension": 8}
    assert manifest.statistics["encoder"] == "hashing"
    with pytest.raises(UpstreamError, match="OPENAI_API_KEY is not set"):
        embed_text(dataset, tmp_path / "none", config=resolve(Config, {"encoder": {"name": "openai"}}), run=run)
    with pytest.raises(ConfigError, match=r"fallback.*does not encode text"):
        resolve(Config, {"fallback": {"name": "efficientnet"}})
