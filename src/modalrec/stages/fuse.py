"""The stage `fuse`: the vectors of several modalities become one vector per item."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from modalrec import config as configs
from modalrec import plugins
from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.embeddings import Batch, EmbeddingsReader, EmbeddingsWriter
from modalrec.errors import ArtifactError, ConfigError
from modalrec.fusers import Fuser
from modalrec.fusers.concat import ConcatConfig
from modalrec.run import Run


class Config(configs.Config):
    """How modalities are joined.

    Attributes:
        fuser: Any fuser.
    """

    fuser: plugins.any_config("fusers") = ConcatConfig()  # type: ignore[valid-type]


def fuse(
    embeddings: Path,
    text_embeddings: Path | None = None,
    image_embeddings: Path | None = None,
    *,
    config: Config,
    run: Run,
) -> dict[str, float]:
    """Joins text and image vectors of the same items; either may be left out.

    An item is present where any modality is; what stands in for a missing one is the fuser's to say.

    Args:
        embeddings: Where to write the fused vectors.
        text_embeddings: Text vectors.
        image_embeddings: Image vectors.
        config: The fuser.
        run: The stage's run.

    Returns:
        items, present, missing, dimension, and the number of items per combination of modalities, such as
        `items_text_image` and `items_none`.

    Raises:
        ConfigError: Neither of the two is given.
        ArtifactError: The two are not about the same items in the same order.
    """
    given = {"text": text_embeddings, "image": image_embeddings}
    folders = {name: folder for name, folder in given.items() if folder is not None}
    if not folders:
        raise ConfigError("fuse: neither text_embeddings nor image_embeddings is given; give one or both")
    manifests = {f"{name}_embeddings": read_manifest(folder, "embeddings") for name, folder in folders.items()}
    readers = {name: EmbeddingsReader(folder) for name, folder in folders.items()}
    fuser: Fuser = plugins.create(
        "fusers", config.fuser, {name: reader.dimension for name, reader in readers.items()}, run.seed
    )
    combinations: Counter[str] = Counter()
    n_items = next(iter(readers.values())).n_items
    with write_artifact(embeddings, "embeddings", stage="fuse", config=config, seed=run.seed, inputs=manifests) as work:
        with EmbeddingsWriter(work.folder, fuser.dimension) as writer, run.progress("items", n_items) as progress:
            for batch in _together(readers):
                present = {name: part.present for name, part in batch.items()}
                fused = fuser.fuse({name: part.vectors_ND for name, part in batch.items()}, present)
                flags = np.stack(list(present.values()), axis=1)
                item_ids = next(iter(batch.values())).item_ids
                writer.write(item_ids, np.logical_or.reduce(flags, axis=1), fused)
                combinations.update("_".join(np.array(list(present))[row]) or "none" for row in flags)
                progress.advance(len(item_ids))
        missing = combinations["none"]
        counts = {"items": n_items, "present": n_items - missing, "missing": missing, "dimension": fuser.dimension}
        counts |= {f"items_{name}": count for name, count in sorted(combinations.items())}
        work.statistics |= {**counts, "fuser": config.fuser.name}
    return {name: float(value) for name, value in counts.items()}


def _together(readers: Mapping[str, EmbeddingsReader]) -> Iterator[dict[str, Batch]]:
    """Yields the same items from all readers.

    Raises:
        ArtifactError: They do not hold the same items in the same order.
    """
    first, *others = readers.values()
    for other in others:
        if other.n_items != first.n_items:
            raise ArtifactError(
                f"{first.path} has {first.n_items} items, {other.path} has {other.n_items}; "
                "run embed_text and embed_image on the same dataset"
            )
    done = 0
    for parts in zip(*(reader.batches() for reader in readers.values()), strict=True):
        for reader, part in zip(others, parts[1:], strict=True):
            differs = part.item_ids != parts[0].item_ids
            if differs.any():
                row = int(np.argmax(differs))
                raise ArtifactError(
                    f"row {done + row} is item {parts[0].item_ids[row]!r} in {first.path} and "
                    f"{part.item_ids[row]!r} in {reader.path}; run embed_text and embed_image on the same dataset"
                )
        yield dict(zip(readers, parts, strict=True))
        done += len(parts[0].item_ids)
