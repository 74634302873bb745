"""The stage `embed_text`: item texts become vectors."""

from pathlib import Path

from pydantic import PositiveInt, field_validator

from modalrec import config as configs
from modalrec import plugins
from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.schemas import ITEMS, read_table
from modalrec.data.texts import load_texts
from modalrec.encoders.minilm import MiniLMConfig
from modalrec.run import Run
from modalrec.stages._given_vectors import GivenConfig, write_given
from modalrec.stages._parts_of_items import PartConfig, within
from modalrec.stages.embedding import Precision, Work, embed, require_modality


class Config(PartConfig):
    """Which encoder, and how many texts at a time.

    Attributes:
        encoder: Any encoder of texts.
        batch_size: Texts at a time. Encoders that pad sort them by tokens and put a bounded number of tokens through
            the model at once, so that a larger number does not need more memory.
        precision: What to compute in. `auto` is float32 on a CPU and half on a GPU, bfloat16 where it has that; the
            vectors are float32 always.
        max_sentences: 1 encodes a text whole. More gives a list of vectors, one for each of so many first sentences,
            for models that read such lists (mp4sr takes 10); `fuse` and `quantize` do not.
        fallback: Another encoder of texts, for a machine that cannot use the first, for example since a key is not set.
            The run says so, and its manifest has the fallback as the encoder.
        given: Ready-made vectors, in place of the encoder's.
        skip: Encode nothing: all items count as without texts, and `fuse` goes by the other modality alone.
    """

    encoder: plugins.any_config("encoders") = MiniLMConfig()  # type: ignore[valid-type]
    batch_size: PositiveInt = 256
    precision: Precision = "auto"
    max_sentences: PositiveInt = 1
    fallback: plugins.any_config("encoders") | None = None  # type: ignore[valid-type]
    given: GivenConfig | None = None
    skip: bool = False

    @field_validator("encoder", "fallback")
    @classmethod
    def _encodes_text(cls, encoder: configs.Config | None) -> configs.Config | None:
        return require_modality(encoder, "text") if encoder is not None else None


def embed_text(dataset: Path, text_embeddings: Path, *, config: Config, run: Run) -> dict[str, float]:
    """Encodes the text of every item of a dataset, each distinct text once.

    An item whose text is null or blank stays in, as not present with a zero vector; so a dataset without any text gives
    vectors that are all missing, a single zero each, and needs no weights.

    Args:
        dataset: The dataset.
        text_embeddings: Where to write the vectors, one row an item in the dataset's order.
        config: The encoder, the batch size and the precision.
        run: The stage's run; a killed run with its checkpoints goes on where it stopped.

    Returns:
        items, present, missing, distinct (texts or sentences), dimension; of lists also the number of vectors.

    Raises:
        UpstreamError: The encoder's weights are not installed, or its vectors are not finite or of a wrong shape.
        DataError: Given vectors are not of these items, or not finite.
    """
    inputs = {"dataset": read_manifest(dataset, "dataset")}
    config = _usable(config, run)
    item_ids = read_table(dataset / "items.parquet", ITEMS, columns=["item_id"])["item_id"]
    first, end = bounds = config.bounds(len(item_ids))
    work = Work(
        "text",
        item_ids[first:end],
        lambda: within(load_texts(dataset, config.max_sentences), bounds),
        total=sum(len(rows) for rows, _ in within(load_texts(dataset, config.max_sentences), bounds)),
        prepare=list,
        encode=lambda encoder, texts: encoder.encode_texts(texts),
        lists=config.max_sentences > 1,
    )
    with write_artifact(
        text_embeddings, "embeddings", stage="embed_text", config=config, seed=run.seed, inputs=inputs
    ) as artifact:
        if config.given is not None:
            return write_given(artifact, config.given, dataset, bounds)
        return embed(work, artifact, config=config, inputs=inputs, run=run)


def _usable(config: Config, run: Run) -> Config:
    """The settings with the fallback as encoder, where the encoder cannot be used and there is one."""
    name = config.encoder.name
    reason = plugins.discover("encoders")[name].unavailable(config.encoder)
    if config.skip or config.given is not None or config.fallback is None or not reason:
        return config
    run.say(f"{name}: {reason}; the fallback {config.fallback.name} encodes instead")
    return config.model_copy(update={"encoder": config.fallback, "fallback": None})
