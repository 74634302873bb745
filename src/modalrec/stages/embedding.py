"""What `embed_text` and `embed_image` share: each distinct content is encoded once, vectors come out in item order."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modalrec import plugins
from modalrec.artifacts import Stage
from modalrec.artifacts.embeddings import ROWS, EmbeddingsWriter
from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.errors import UpstreamError
from modalrec.run import Run

# N items or contents, D length of the vectors.

Content = TypeVar("Content", str, bytes)


def require_modality(config: Config, modality: str) -> Config:
    """Passes the configuration of an encoder on; a stage's configuration calls it, to refuse the wrong kind early.

    Raises:
        ValueError: The encoder does not encode the modality (pydantic turns it into an error of the field).
    """
    encoders = plugins.discover("encoders")
    name = config.name  # type: ignore[attr-defined]
    if modality not in encoders[name].modalities:
        able = ", ".join(other for other, cls in encoders.items() if modality in cls.modalities)
        raise ValueError(f"encoder {name!r} does not encode {modality}; use one of {able}")
    return config


def embed(
    work: Stage,
    item_ids: pa.ChunkedArray,
    windows: Iterable[tuple[NDArray[np.int32], list[Content]]],
    encode: Callable[[list[Content]], NDArray[np.float32]],
    encoder: Encoder,
    *,
    batch_size: int,
    total: int,
    run: Run,
) -> dict[str, float]:
    """Encodes the contents of items and writes `embeddings.parquet`.

    In memory are one window, and about 150 bytes an item to know contents again; vectors wait on disk.

    Args:
        work: The artifact being written.
        item_ids: [N] ids of all items, with content or without.
        windows: Item indices and their contents, some at a time; a window is sorted by length before it is batched,
            so that little is padded.
        encode: Turns contents into vectors, at most `batch_size` at a time.
        encoder: Whose vectors these are.
        batch_size: Contents at a time.
        total: Number of contents, for the progress.
        run: The stage's run.

    Returns:
        The artifact's statistics but the encoder's name: items, present, missing, distinct, dimension.

    Raises:
        UpstreamError: The encoder gave vectors of a wrong shape or with numbers that are not finite.
    """
    places_N = np.full(len(item_ids), -1, np.int64)
    known: dict[bytes, int] = {}
    with tempfile.TemporaryFile(dir=work.folder) as store:
        with run.progress("contents", total) as progress:
            for rows, contents in windows:
                digests = [_digest(content) for content in contents]
                fresh = {d: i for i, d in reversed(list(enumerate(digests))) if d not in known}
                order = sorted(fresh.values(), key=lambda i: (len(contents[i]), i))
                for start in range(0, len(order), batch_size):
                    batch = order[start : start + batch_size]
                    vectors_ND = encode([contents[i] for i in batch])
                    _check(vectors_ND, encoder, item_ids.take(pa.array(rows[batch])).to_pylist())
                    store.write(np.ascontiguousarray(vectors_ND, np.float32).tobytes())
                    known |= {digests[i]: len(known) + place for place, i in enumerate(batch)}
                    progress.advance(len(batch))
                places_N[rows] = [known[digest] for digest in digests]
                progress.advance(len(contents) - len(order))
        store.flush()
        shape = (max(1, len(known)), encoder.dimension)
        vectors = np.memmap(store, np.float32, "r", shape=shape) if known else np.zeros(shape, np.float32)
        with EmbeddingsWriter(work.folder, encoder.dimension) as writer:
            for start in range(0, len(item_ids), ROWS):
                places = places_N[start : start + ROWS]
                writer.write(item_ids[start : start + ROWS].to_pylist(), places >= 0, vectors[np.maximum(places, 0)])
    present = int((places_N >= 0).sum())
    counts = {
        "items": len(item_ids),
        "present": present,
        "missing": len(item_ids) - present,
        "distinct": len(known),
        "dimension": encoder.dimension,
    }
    work.statistics |= {**counts, "encoder": encoder.Config.model_fields["name"].default}
    return {name: float(value) for name, value in counts.items()}


def _digest(content: str | bytes) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return hashlib.blake2b(raw, digest_size=16).digest()


def _check(vectors_ND: NDArray[np.float32], encoder: Encoder, item_ids: list[str]) -> None:
    name, expected = type(encoder).__name__, (len(item_ids), encoder.dimension)
    if vectors_ND.shape != expected:
        raise UpstreamError(
            f"{name}: gave vectors of shape {vectors_ND.shape} instead of {expected} for the batch "
            f"with item {item_ids[0]!r}; repair the encoder or choose another"
        )
    finite = np.isfinite(vectors_ND).all(axis=1)
    if not finite.all():
        raise UpstreamError(
            f"{name}: the vector of item {item_ids[int(np.argmin(finite))]!r} is not finite; look at its content, "
            "or choose another encoder"
        )
