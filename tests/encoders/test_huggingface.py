import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file

from modalrec.encoders.huggingface import PRESETS, HuggingFace, HuggingFaceConfig
from modalrec.errors import UpstreamError
from tests.encoders.conftest import loaded
from tests.encoders.small import add_dense, folder_of

TEXTS = ["steel screws, 100 pieces of the best that there are", "a love story", "word"]
PICTURES = [Image.linear_gradient("L").convert("RGB"), Image.radial_gradient("L").convert("RGB").resize((60, 90))]


def encoder(folder: str | Path, modality: str = "text", precision: str = "float32", **settings: object) -> HuggingFace:
    path = folder_of(folder) if isinstance(folder, str) else folder
    return HuggingFace(HuggingFaceConfig(model=str(path), **settings), "cpu", modality, precision)


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(folder_of(name), tmp_path / name))


def unit(vector: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vector.detach(), dim=0).numpy()


def alone(name: str, text: str, auto: type = hf.AutoModel) -> torch.Tensor:
    """Token vectors of one text, nothing padded."""
    tokens = hf.AutoTokenizer.from_pretrained(folder_of(name))(text, return_tensors="pt")["input_ids"]
    return auto.from_pretrained(folder_of(name))(tokens).last_hidden_state[0]


def test_bert_is_the_first_token() -> None:
    vectors = loaded("huggingface-bert", "text").encode_texts(TEXTS)
    for vector, text in zip(vectors, TEXTS, strict=True):
        np.testing.assert_allclose(vector, unit(alone("bert", text)[0]), atol=1e-6)


def test_prefix_and_mean() -> None:
    vectors = loaded("huggingface-mean", "text").encode_texts(TEXTS)
    for vector, text in zip(vectors, TEXTS, strict=True):
        np.testing.assert_allclose(vector, unit(alone("bert", f"passage: {text}").mean(0)), atol=1e-6)


def test_qwen_is_the_last_token_whatever_side_its_tokenizer_pads() -> None:
    vectors = loaded("huggingface-qwen", "text").encode_texts(TEXTS)
    for vector, text in zip(vectors, TEXTS, strict=True):
        np.testing.assert_allclose(vector, unit(alone("qwen", text)[-1]), atol=1e-6)


def test_sentence_t5_is_the_mean_through_its_linear_layer() -> None:
    vectors = loaded("huggingface-sentence_t5", "text").encode_texts(TEXTS)
    weight = load_file(folder_of("t5") / "2_Dense" / "model.safetensors")["linear.weight"]
    for vector, text in zip(vectors, TEXTS, strict=True):
        mean = alone("t5", text, hf.T5EncoderModel).mean(0)
        np.testing.assert_allclose(vector, unit(weight @ mean), atol=1e-6)


def test_clip_gives_texts_and_pictures_in_one_space() -> None:
    folder = folder_of("clip")
    model, processor = hf.CLIPModel.from_pretrained(folder), hf.AutoImageProcessor.from_pretrained(folder)
    texts, pictures = (loaded("huggingface-clip", modality) for modality in ("text", "image"))
    assert texts.dimension == pictures.dimension == 24
    for vector, picture in zip(pictures.encode_images(PICTURES), PICTURES, strict=True):
        expected = model.get_image_features(**processor(picture, return_tensors="pt")).pooler_output[0]
        np.testing.assert_allclose(vector, unit(expected), atol=1e-6)
    tokens = hf.AutoTokenizer.from_pretrained(folder)(TEXTS[1], return_tensors="pt")["input_ids"]
    np.testing.assert_allclose(
        texts.encode_texts(TEXTS)[1], unit(model.get_text_features(tokens).pooler_output[0]), atol=1e-6
    )


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pictures_by_their_own_processor(pooling: str) -> None:
    model, folder = hf.ViTModel.from_pretrained(folder_of("vit")), folder_of("vit")
    vectors = encoder("vit", "image", pooling=pooling).encode_images(PICTURES)
    for vector, picture in zip(vectors, PICTURES, strict=True):
        pixels = hf.AutoImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")
        hidden = model(**pixels).last_hidden_state[0]
        np.testing.assert_allclose(vector, unit(hidden[0] if pooling == "cls" else hidden.mean(0)), atol=1e-6)


def test_vectors_keep_their_length_where_asked() -> None:
    raw = encoder("bert", normalise=False).encode_texts(TEXTS)
    assert np.linalg.norm(raw, axis=1).min() > 1.5
    np.testing.assert_allclose(raw[0], alone("bert", TEXTS[0]).mean(0).detach().numpy(), atol=1e-5)


def test_text_beyond_max_tokens_does_not_count() -> None:
    """Cut at the setting, and at the model's 64 positions where the setting is larger."""
    first, second = encoder("bert", max_tokens=6).encode_texts(["love story in Paris", "love story in a spaceman"])
    np.testing.assert_allclose(first, second, atol=1e-6)
    long = encoder("bert", max_tokens=512).encode_texts(["word " * 62 + "a", "word " * 1000])
    np.testing.assert_allclose(long[0], long[1], atol=1e-6)


@pytest.mark.parametrize(("folder", "modality"), [("bert", "text"), ("t5", "text"), ("clip", "image")])
def test_half_precision_is_near(folder: str, modality: str) -> None:
    whole, half = (encoder(folder, modality, precision) for precision in ("float32", "bfloat16"))
    assert next(half.model.parameters()).dtype == torch.bfloat16
    first, second = (e.encode_texts(TEXTS) if modality == "text" else e.encode_images(PICTURES) for e in (whole, half))
    assert second.dtype == np.float32
    assert 0 < np.abs(first - second).max() < 0.05
    np.testing.assert_allclose(np.linalg.norm(second, axis=1), 1, atol=1e-5)


def test_presets_give_what_is_not_given() -> None:
    config = HuggingFaceConfig(preset="qwen3_embedding", model="Qwen/Qwen3-Embedding-8B", max_tokens=512)
    assert (config.model, config.pooling, config.max_tokens) == ("Qwen/Qwen3-Embedding-8B", "last", 512)
    assert set(PRESETS) | {""} == set(HuggingFaceConfig.model_fields["preset"].annotation.__args__)
    for preset in PRESETS:
        assert HuggingFaceConfig(preset=preset).model == PRESETS[preset]["model"]


@pytest.mark.parametrize(
    ("settings", "modality", "message"),
    [
        ({}, "text", "model: missing; .* bert, sentence_t5, qwen3_embedding, clip"),
        ({"preset": "bert"}, "image", "preset 'bert' does not encode image; use one of clip, vit, dinov2"),
        ({"preset": "vit"}, "text", "preset 'vit' does not encode text"),
        ({"model": "a/b", "pooling": "last"}, "image", "pooling 'last' is for texts"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, modality: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HuggingFace.check(HuggingFaceConfig(**settings), modality)


def test_code_in_the_folder_is_not_run(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("bert")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UpstreamError, match="cannot be loaded as a model of text"):
        encoder(folder)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_not_read(copy: Callable[[str], Path]) -> None:
    folder = copy("bert")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UpstreamError, match="safetensors"):
        encoder(folder)


def test_weights_that_would_be_random_are_refused(copy: Callable[[str], Path]) -> None:
    with pytest.raises(UpstreamError, match=r"lacks pooler\.dense\.bias, pooler\.dense\.weight"):
        encoder("bert", pooling="pooled")
    folder = copy("bert")
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.weight")
    hf.BertModel.from_pretrained(folder).save_pretrained(folder, state_dict=weights)
    with pytest.raises(UpstreamError, match=r"lacks encoder\.layer\.1\.output\.dense\.weight"):
        encoder(folder)


def test_a_model_of_the_other_modality_is_refused() -> None:
    with pytest.raises(UpstreamError, match="cannot be loaded as a model of image"):
        encoder("bert", "image")


@pytest.mark.parametrize("damage", ["cut", "missing", "unknown activation"])
def test_a_damaged_linear_layer_is_refused(copy: Callable[[str], Path], damage: str) -> None:
    folder = copy("t5")
    file = folder / "2_Dense" / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:50])
    elif damage == "missing":
        file.unlink()
    else:
        add_dense(folder, "os.system")
    with pytest.raises(UpstreamError, match=r"a layer that modules\.json lists cannot be loaded .* download"):
        encoder(folder)
