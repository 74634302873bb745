"""What `embed_text` and `embed_image` share: each distinct content is encoded once, vectors come out in item order."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modalrec import plugins
from modalrec.artifacts import Manifest, Stage
from modalrec.artifacts.files import sha256_json
from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.errors import UpstreamError
from modalrec.run import Run
from modalrec.stages._embedding_write import Found, write_lists, write_vectors
from modalrec.stages._keywords import Keywords
from modalrec.stages._shards import Shards
from modalrec.training.checkpoint import fingerprint

# N items, E contents of all items, B contents of a batch, D length of the vectors.

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Content = TypeVar("Content", str, bytes)
Windows = Callable[[], Iterable[tuple[NDArray[np.int32], list[Content]]]]
"""Gives, with each call again, item indices and their contents, some at a time."""


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
    encoders[name].check(config, modality)
    return config


def resolve_precision(precision: Precision, device: str) -> str:
    """What to compute in: `auto` is half on a GPU, bfloat16 where it has that, and float32 on a CPU."""
    if precision != "auto":
        return precision
    if not device.startswith("cuda"):
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


class Work(NamedTuple, Generic[Content]):
    """What is to be encoded, and how.

    Attributes:
        modality: text or image.
        item_ids: [N] ids of all items, with content or without.
        windows: The contents; a window is sorted by length before it is batched, so that little is padded.
        total: Number of contents, duplicates among them.
        prepare: Makes of contents what the encoder takes, in a thread of its own, a batch ahead.
        encode: The encoder's method, given what `prepare` made.
        lists: An item may have several contents, and its vectors are written as a list.
        keywords: Makes an encoder of keywords of the encoder; their vectors are written as a list.
    """

    modality: str
    item_ids: pa.ChunkedArray
    windows: Windows[Content]
    total: int
    prepare: Callable[[list[Content]], Any]
    encode: Callable[[Encoder, Any], NDArray[np.float32]]
    lists: bool = False
    keywords: Callable[[Encoder, str, str], Keywords] | None = None


def embed(
    work: Work[Content], artifact: Stage, *, config: Any, inputs: dict[str, Manifest], run: Run
) -> dict[str, float]:
    """Encodes the contents of items and writes `embeddings.parquet`; a killed run goes on behind its shards.

    In memory are one window, the vectors since the last shard, and about 150 bytes an item to know contents again;
    vectors wait on disk. Where no item has any content no weights are loaded, and each item gets a single zero.

    Args:
        work: What to encode.
        artifact: The artifact being written.
        config: The stage's configuration: encoder, batch_size, precision, skip.
        inputs: What the stage was given, by edge.
        run: The stage's run.

    Returns:
        The artifact's statistics that are numbers: items, present, missing, distinct, dimension; and of lists vectors.
        Also what the encoder spent, which is no statistic, since it is not the same when the stage is run again.

    Raises:
        UpstreamError: The encoder's weights are not there, or it gave vectors of a wrong shape or with numbers that are
            not finite; or another run with the same settings and inputs is at work on the same checkpoints.
    """
    about: dict[str, Any] = {"encoder": config.encoder.name}
    if config.skip:
        work, about = work._replace(windows=lambda: (), total=0), {"encoder": "none"}
    n_items, words_VD = len(work.item_ids), None
    spent: Mapping[str, float] = {}
    with tempfile.TemporaryFile(dir=artifact.folder) as store:
        if work.total:
            device = run.torch_device()
            about["precision"] = resolve_precision(config.precision, device)
            encoder: Encoder = plugins.create("encoders", config.encoder, device, work.modality, about["precision"])
            if work.keywords is not None:
                encoder = work.keywords(encoder, device, about["precision"])
                words_VD, about["form"] = encoder.words_VD, "keywords"
            about["weights"] = encoder.weights
            key = sha256_json([fingerprint(run.stage, config, run.seed, inputs), about])
            shards = Shards(run, key, encoder.dimension)
            with shards.alone():
                encoder.expect(lambda: (contents for _, contents in work.windows()), run)
                rows_E, places_E, distinct = _encode(work, store, encoder, shards, config.batch_size, run)
            dimension, spent = encoder.dimension, encoder.spent
        else:
            rows_E, places_E, distinct, dimension = np.zeros(0, np.int32), np.zeros(0, np.int64), 0, 1
            why = "it is skipped" if config.skip else f"no item has any {work.modality}"
            run.say(f"{why}: no weights are loaded, and all items count as missing")
        store.flush()
        shape = (max(1, distinct), dimension)
        vectors = np.memmap(store, np.float32, "r", shape=shape) if distinct else np.zeros(shape, np.float32)
        found = Found(work.item_ids, rows_E, places_E, vectors)
        counts = {"items": n_items, "present": len(np.unique(rows_E)), "missing": n_items - len(np.unique(rows_E))}
        counts |= {"distinct": distinct, "dimension": dimension if words_VD is None else words_VD.shape[1]}
        if work.total and (work.lists or words_VD is not None):
            counts["vectors"] = write_lists(artifact.folder, found, words_VD)
        else:
            write_vectors(artifact.folder, found)
    artifact.statistics |= {**counts, **{name: value for name, value in about.items() if value}}
    return {name: float(value) for name, value in {**counts, **spent}.items()}


def _encode(
    work: Work[Content], store: IO[bytes], encoder: Encoder, shards: Shards, batch_size: int, run: Run
) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """Writes the vectors of distinct contents to `store`; gives each content's item and place, and their number."""
    rows_E, places_E = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    known: dict[bytes, int] = {}
    restored = shards.restore(store.write)
    with run.progress("contents", work.total) as progress, ThreadPoolExecutor(1) as thread:
        for rows, contents in work.windows():
            digests = [_digest(content) for content in contents]
            fresh = {d: i for i, d in reversed(list(enumerate(digests))) if d not in known}
            order = sorted(fresh.values(), key=lambda i: (len(contents[i]), i))
            first = len(known)
            known |= {digests[i]: first + place for place, i in enumerate(order)}
            rows_E.append(rows)
            places_E.append(np.array([known[digest] for digest in digests], np.int64))
            done = min(max(restored - first, 0), len(order))
            if done:
                progress.start_at(progress.done + done)
            batches = [order[start : start + batch_size] for start in range(done, len(order), batch_size)]
            prepared = _ahead(thread, work.prepare, [[contents[i] for i in batch] for batch in batches])
            for batch, ready in zip(batches, prepared, strict=True):
                vectors_BD = work.encode(encoder, ready)
                _check(vectors_BD, encoder, work.item_ids.take(pa.array(rows[batch])).to_pylist())
                vectors_BD = np.ascontiguousarray(vectors_BD, np.float32)
                store.write(vectors_BD.tobytes())
                shards.add(vectors_BD)
                progress.advance(len(batch))
            progress.advance(len(contents) - len(order))
    return np.concatenate(rows_E), np.concatenate(places_E), len(known)


def _ahead(
    thread: ThreadPoolExecutor, prepare: Callable[[list[Content]], Any], batches: list[list[Content]]
) -> Iterator[Any]:
    """Prepares one batch while the one before it is encoded."""
    waiting = None
    for batch in batches:
        ready, waiting = waiting, thread.submit(prepare, batch)
        if ready is not None:
            yield ready.result()
    if waiting is not None:
        yield waiting.result()


def _digest(content: str | bytes) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return hashlib.blake2b(raw, digest_size=16).digest()


def _check(vectors_BD: NDArray[np.float32], encoder: Encoder, item_ids: list[str]) -> None:
    name, expected = type(encoder).__name__, (len(item_ids), encoder.dimension)
    if vectors_BD.shape != expected:
        raise UpstreamError(
            f"{name}: gave vectors of shape {vectors_BD.shape} instead of {expected} for the batch "
            f"with item {item_ids[0]!r}; repair the encoder or choose another"
        )
    finite = np.isfinite(vectors_BD).all(axis=1)
    if not finite.all():
        raise UpstreamError(
            f"{name}: the vector of item {item_ids[int(np.argmin(finite))]!r} is not finite; set precision=float32 if "
            "it was a half, look at the item's content, or choose another encoder"
        )
