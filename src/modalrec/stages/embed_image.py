"""The stage `embed_image`: item pictures become vectors."""

from functools import partial
from pathlib import Path

import pyarrow.compute as pc
from pydantic import PositiveInt, field_validator, model_validator

from modalrec import config as configs
from modalrec import plugins
from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.schemas import ITEMS, read_table
from modalrec.data.images import load_images, open_image
from modalrec.encoders import Encoder
from modalrec.encoders.efficientnet import EfficientNetConfig
from modalrec.run import Run
from modalrec.stages._given_vectors import GivenConfig, write_given
from modalrec.stages._keywords import Keywords, KeywordsConfig, vocabulary_of
from modalrec.stages._parts_of_items import PartConfig, within
from modalrec.stages.embedding import Precision, Work, embed, require_modality


class Config(PartConfig):
    """Which encoder, and how many pictures at a time.

    Attributes:
        encoder: Any encoder of pictures.
        batch_size: Pictures at a time; on a CPU more than 4 are slower (EfficientNet-Lite0: 60 a second with 4, 55 with
            8, 48 with 16), since what layers hand on then leaves the caches; a GPU takes hundreds.
        precision: What to compute in. `auto` is float32 on a CPU and half on a GPU, bfloat16 where it has that; the
            vectors are float32 always.
        keywords: Instead of a picture's own vector, a list of vectors: of the words that the encoder, one of texts and
            pictures such as open_clip, finds in it. For models that read lists, such as mp4sr.
        given: Ready-made vectors, in place of the encoder's.
        skip: Encode nothing: all items count as without pictures, and `fuse` goes by the other modality alone.
    """

    encoder: plugins.any_config("encoders") = EfficientNetConfig()  # type: ignore[valid-type]
    batch_size: PositiveInt = 4
    precision: Precision = "auto"
    keywords: KeywordsConfig | None = None
    given: GivenConfig | None = None
    skip: bool = False

    @field_validator("encoder")
    @classmethod
    def _encodes_images(cls, encoder: configs.Config) -> configs.Config:
        return require_modality(encoder, "image")

    @model_validator(mode="after")
    def _keywords_need_both_towers(self) -> "Config":
        if self.keywords is not None:
            if not {"text", "image"} <= plugins.discover("encoders")[self.encoder.name].modalities:
                raise ValueError(
                    f"keywords: the encoder {self.encoder.name} has no texts to compare pictures with; take open_clip"
                )
            require_modality(self.keywords.encoder, "text")
        return self


def embed_image(dataset: Path, image_embeddings: Path, *, config: Config, run: Run) -> dict[str, float]:
    """Encodes the picture of every item of a dataset, given or drawn, each distinct picture once.

    An item without a picture stays in, as not present with a zero vector; so a dataset without any picture gives
    vectors that are all missing, a single zero each, and needs no weights.

    Args:
        dataset: The dataset.
        image_embeddings: Where to write the vectors, one row an item in the dataset's order.
        config: The encoder, the batch size and the precision.
        run: The stage's run; a killed run with its checkpoints goes on where it stopped.

    Returns:
        items, present, missing, distinct (pictures), dimension; of keywords also the number of vectors.

    Raises:
        UpstreamError: The encoder's weights are not installed, or its vectors are not finite or of a wrong shape.
        DataError: The items' texts have too few words to choose keywords from; or given vectors are not of these items.
    """
    inputs = {"dataset": read_manifest(dataset, "dataset")}
    items = read_table(dataset / "items.parquet", ITEMS, columns=["item_id", "image"])
    first, end = bounds = config.bounds(len(items))
    items = items[first:end]
    work = Work(
        "image",
        items["item_id"],
        lambda: within(load_images(dataset), bounds),
        total=pc.sum(pc.not_equal(items["image"], "none")).as_py() or 0,
        prepare=lambda pictures: [open_image(picture) for picture in pictures],
        encode=lambda encoder, pictures: encoder.encode_images(pictures),
        keywords=None if config.keywords is None else partial(_keywords, dataset, config),
    )
    with write_artifact(
        image_embeddings, "embeddings", stage="embed_image", config=config, seed=run.seed, inputs=inputs
    ) as artifact:
        if config.given is not None:
            return write_given(artifact, config.given, dataset, bounds)
        return embed(work, artifact, config=config, inputs=inputs, run=run)


def _keywords(dataset: Path, config: Config, images: Encoder, device: str, precision: str) -> Keywords:
    assert config.keywords is not None  # noqa: S101 (the caller has looked)
    vocabulary = vocabulary_of(dataset, config.keywords)
    texts = plugins.create("encoders", config.encoder, device, "text", precision)
    words = plugins.create("encoders", config.keywords.encoder, device, "text", precision)
    return Keywords(images, texts, words, vocabulary, config.keywords)
