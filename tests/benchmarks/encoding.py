"""Encoding items: our stages beside plain loops over the same library, one thread, CPU-seconds by `time.process_time`.

Texts are the real ones of Amazon Scientific where MODALREC_DATA holds them, else words of a generated vocabulary with
lengths like theirs; all distinct, so that nothing is saved by encoding duplicates once. Titles are the same items'
titles alone, or the texts' first words. Pictures are generated, of the size and form that ingest stores. The loops are
what the libraries' pages show: one item at a time, and batches of 32 in the order of the items, padded to the longest.
Ours is the whole stage with its weights loaded: reading the dataset, digests, sorting, shards, writing the artifact.
"""

import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import timm
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from modalrec import plugins
from modalrec.artifacts.embeddings import load
from modalrec.encoders import efficientnet, minilm
from modalrec.encoders._weights import installed
from modalrec.run import Run
from modalrec.stages.embed_image import Config as ImageConfig
from modalrec.stages.embed_image import embed_image
from modalrec.stages.embed_text import Config as TextConfig
from modalrec.stages.embed_text import embed_text
from tests.conftest import ROOT
from tests.stages.small import write_dataset

TEXTS, TITLES, PICTURES, ROUNDS, BATCH = 40, 120, 40, 2, 32
Vectors = NDArray[np.float32]


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    print(f"items per CPU-second, one thread, best of {ROUNDS} rounds")
    print(f"{'':28} {'one by one':>10} {'batches':>8} {'stage':>7} {'ratios':>11} {'largest difference':>20}")
    with tempfile.TemporaryDirectory() as folder:
        for name, texts in {"texts": real_texts() or generated_texts(), "titles": titles()}.items():
            words = sum(len(text.split()) for text in texts) / len(texts)
            show(f"{len(texts)} {name} of {words:.0f} words", len(texts), text_ways(Path(folder) / name, texts))
        pictures = generated_pictures()
        show(f"{len(pictures)} pictures of 256 px", len(pictures), picture_ways(Path(folder) / "pictures", pictures))


def show(name: str, count: int, ways: list[Callable[[], Vectors]]) -> None:
    """Runs the ways in turn and prints one line of the table."""
    seconds: list[list[float]] = [[] for _ in ways]
    found: list[Vectors] = []
    for _ in range(ROUNDS):
        found = []
        for way, spent in zip(ways, seconds, strict=True):
            begin = time.process_time()
            found.append(way())
            spent.append(time.process_time() - begin)
    one, batches, ours = (count / min(spent) for spent in seconds)
    differences = " / ".join(f"{np.abs(vectors - found[-1]).max():.0e}" for vectors in found[:-1])
    ratios = f"{ours / one:.2f} / {ours / batches:.2f}"
    print(f"{name:28} {one:>10.1f} {batches:>8.1f} {ours:>7.1f} {ratios:>11} {differences:>20}", flush=True)


def text_ways(folder: Path, texts: list[str]) -> list[Callable[[], Vectors]]:
    """MiniLM over texts: one by one, in batches, and the stage."""
    weights = installed(minilm.PACKAGE, minilm.FOLDER, minilm.PIP)
    tokenizer, model = (
        transformers.AutoTokenizer.from_pretrained(weights),
        transformers.AutoModel.from_pretrained(weights).eval(),
    )

    @torch.inference_mode()
    def plain(size: int) -> Vectors:
        parts = []
        for start in range(0, len(texts), size):
            tokens = tokenizer(
                texts[start : start + size], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            hidden, mask = model(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
            parts.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1)))
        return torch.cat(parts).numpy()

    dataset = write_dataset(folder / "dataset", list(texts))
    encoder = plugins.create("encoders", TextConfig().encoder, "cpu", "text", "float32")

    def stage() -> Vectors:
        return finished(encoder, lambda out, run: embed_text(dataset, out, config=TextConfig(), run=run), folder)

    return [lambda: plain(1), lambda: plain(BATCH), stage]


def picture_ways(folder: Path, pictures: dict[int, bytes]) -> list[Callable[[], Vectors]]:
    """EfficientNet-Lite0 over pictures: one by one, in batches, and the stage."""
    model = timm.create_model("tf_efficientnet_lite0").eval()
    file = installed(efficientnet.PACKAGE, efficientnet.FILE, efficientnet.PIP)
    weights = torch.load(file, weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    model.reset_classifier(0)

    def pixels(content: bytes) -> torch.Tensor:
        picture = Image.open(io.BytesIO(content)).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 127.5 - 1

    @torch.inference_mode()
    def plain(size: int) -> Vectors:
        contents = list(pictures.values())
        batches = [contents[start : start + size] for start in range(0, len(contents), size)]
        features = [model(torch.stack([pixels(content) for content in batch])) for batch in batches]
        return torch.nn.functional.normalize(torch.cat(features)).numpy()

    dataset = write_dataset(folder / "dataset", [None] * len(pictures), pictures)
    encoder = plugins.create("encoders", ImageConfig().encoder, "cpu", "image", "float32")

    def stage() -> Vectors:
        return finished(encoder, lambda out, run: embed_image(dataset, out, config=ImageConfig(), run=run), folder)

    return [lambda: plain(1), lambda: plain(BATCH), stage]


def finished(encoder: object, stage: Callable[[Path, Run], object], folder: Path) -> Vectors:
    """Runs a stage with an encoder whose weights are loaded, keeping shards, and reads what it wrote."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        patch("modalrec.stages.embedding.plugins.create", lambda *_: encoder),
    ):
        out = Path(place) / "out"
        stage(out, Run("embed", device="cpu", checkpoints=f"{place}/shards", checkpoint_seconds=1, quiet=True))
        return load(out).vectors_ND


def real_texts() -> list[str]:
    """Titles and descriptions of Amazon Scientific, spread over the catalogue; none where the data is not there."""
    found = dict.fromkeys(f"{item.get('title', '')}. {item.get('description', '')}" for item in real_items()[::40])
    return list(found)[:TEXTS]


def titles() -> list[str]:
    """Short texts, distinct."""
    found = dict.fromkeys(str(item.get("title", "")) for item in real_items()[::10]) or dict.fromkeys(
        f"{text.partition(' ')[0]} {row} {text[:40]}" for row, text in enumerate(generated_texts() * 5)
    )
    return list(found)[:TITLES]


def real_items() -> list[dict[str, str]]:
    """The items of Amazon Scientific, none where the data is not there."""
    data = Path(os.environ.get("MODALREC_DATA", ROOT.parent / "shared" / "data"))
    file = data / "amazon_scientific" / "Scientific.item.json"
    return list(json.loads(file.read_text()).values()) if file.is_file() else []


def generated_texts() -> list[str]:
    """Texts of 5 to 250 words, most of them short."""
    rng = np.random.default_rng(0)
    vocabulary = np.array(["".join(rng.choice(list("aeioustrnlkm"), rng.integers(2, 9))) for _ in range(5000)])
    lengths = np.minimum(5 + rng.exponential(60, TEXTS), 250).astype(int)
    return [" ".join(rng.choice(vocabulary, length)) for length in lengths]


def generated_pictures() -> dict[int, bytes]:
    """JPEGs of colour clouds, 256 pixels at their longer side."""
    rng = np.random.default_rng(0)
    found = {}
    for row in range(PICTURES):
        cloud = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8))
        buffer = io.BytesIO()
        cloud.resize((int(rng.integers(140, 257)), 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        found[row] = buffer.getvalue()
    return found


if __name__ == "__main__":
    main()
