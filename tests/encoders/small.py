"""Small models with random weights, saved to folders as the real libraries save them."""

import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
import transformers as hf
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ["steel screws, 100 pieces", "a love story in Paris", "a cowboy doll is jealous of a new spaceman", "word"]
OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


ROOT = tempfile.TemporaryDirectory(prefix="modalrec-small-")
"""Gone when the process ends."""


@functools.cache
def folder_of(name: str) -> Path:
    """The folder of a small model, made once a process: one of the functions below, without its underscore."""
    folder = Path(ROOT.name) / name
    folder.mkdir()
    hf.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    globals()[f"_{name}"](folder)
    return folder


def _bert(folder: Path) -> None:
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = hf.BertConfig(vocab_size=len(_tokenizer(folder)), max_position_embeddings=64, **size)
    _save(hf.BertModel(config, add_pooling_layer=False), folder)


def _t5(folder: Path) -> None:
    """As Sentence-T5 is published: the encoder of an encoder-decoder, and a linear layer behind the pooling."""
    vocabulary = len(_tokenizer(folder, marks=("", "</s>")))
    size = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}
    _save(hf.T5EncoderModel(hf.T5Config(vocab_size=vocabulary, **size)), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    add_dense(folder, "torch.nn.modules.linear.Identity")


def add_dense(folder: Path, activation: str) -> None:
    """Adds a linear layer to 24 numbers, as sentence-transformers saves it."""
    (folder / "2_Dense").mkdir(exist_ok=True)
    sizes = {"in_features": 32, "out_features": 24, "bias": False, "activation_function": activation}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(sizes))
    save_file({"linear.weight": torch.randn(24, 32)}, folder / "2_Dense" / "model.safetensors")
    modules = [{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]
    modules.append({"path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))


def _qwen(folder: Path) -> None:
    """Causal, with a tokenizer that marks neither begin nor end and pads in front."""
    vocabulary = len(_tokenizer(folder, marks=("", ""), padding_side="left"))
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    _save(hf.Qwen3Model(hf.Qwen3Config(vocab_size=vocabulary, num_key_value_heads=1, head_dim=16, **size)), folder)


def _clip(folder: Path) -> None:
    vocabulary = len(_tokenizer(folder, marks=("", "</s>")))
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": vocabulary, "max_position_embeddings": 24, "eos_token_id": 1, "pad_token_id": 0, **size}
    vision = {"image_size": 32, "patch_size": 8, **size}
    _save(hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)), folder)
    _processor(hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}), folder)


def _clip_vision(folder: Path) -> None:
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    _save(hf.CLIPVisionModel(hf.CLIPVisionConfig(image_size=32, patch_size=8, **size)), folder)
    _processor(hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}), folder)


def _vit(folder: Path) -> None:
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    _save(hf.ViTModel(hf.ViTConfig(image_size=32, patch_size=8, **size), add_pooling_layer=False), folder)
    _processor(hf.ViTImageProcessor(size={"height": 32, "width": 32}), folder)


def _convnext(folder: Path) -> None:
    _save(hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])), folder)
    _processor(hf.ViTImageProcessor(size={"height": 64, "width": 64}), folder)


def _open_clip(folder: Path) -> None:
    model = open_clip.model.CLIP(**OPEN_CLIP)
    settings = {"model_cfg": OPEN_CLIP, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


def _timm(folder: Path) -> None:
    # A ResNet of the real library, of the least depth.
    timm.models.save_for_hf(timm.create_model("resnet10t", num_classes=5), folder, safe_serialization=True)


def _save(model: Any, folder: Path) -> None:
    # As it is initialised, with numbers near zero, a model hardly tells inputs apart.
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim >= 2:
                tensor.normal_(std=1.0 if "token" in name or "shared" in name or "word" in name else 0.2)
    model.save_pretrained(folder)


def _processor(processor: Any, folder: Path) -> None:
    processor.save_pretrained(folder)


def _tokenizer(folder: Path, marks: Sequence[str] = ("[CLS]", "[SEP]"), padding_side: str = "right") -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>", "[CLS]", "[SEP]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    if any(marks):
        used = [(mark, special.index(mark)) for mark in marks if mark]
        single = " ".join([marks[0], "$A", marks[1]]).strip()
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=used)
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", padding_side=padding_side
    )
    fast.save_pretrained(folder)
    return fast
