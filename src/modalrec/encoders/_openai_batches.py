"""Batches of OpenAI's Batch API: files of requests that the service works off within a day, at half the price.

A batch is known by its id, which lies beside the cached vectors from the moment it is known, and by the digest of its
requests, which the service keeps with it: a run that was killed at any moment finds its batches again.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from modalrec.artifacts.store import Location
from modalrec.encoders._openai_service import Damaged, Service, numbers_of, vector_of
from modalrec.encoders._vector_cache import VectorCache
from modalrec.errors import UpstreamError
from modalrec.run import Run

JOB, ENDED_JOB = "batch-", "ended-"
LIMIT_TEXTS, LIMIT_BYTES = 10_000, 100 << 20
"""Of a file; the service takes 50,000 texts and 200 MB. The results of so many texts, 60 MB and more, are in memory."""
ROWS = 512
"""Vectors that become one part of the cache."""
ENDED = ("completed", "failed", "expired", "cancelled")
ALIVE = ("validating", "in_progress", "finalizing", "completed")


class Failed(NamedTuple):
    """What batches did not give: how many texts, and what the service said of the first."""

    texts: int = 0
    said: str = ""

    def plus(self, texts: int, said: str) -> "Failed":
        """With further ones."""
        return Failed(self.texts + texts, (self.said or said) if self.texts + texts else "")


class Batches:
    """The batches of one model on one server.

    Args:
        service: The server.
        cache: Where vectors go, with a location.
        location: The cache's.
        request: Of each text what is asked for, but for the text: model, dimensions, encoding_format.
        width: Length that the server's vectors must have; None where they are cut here.
        dimension: Length that is kept.
        poll_seconds: Between two looks at the batches.
        run: Tells progress.
    """

    def __init__(
        self,
        service: Service,
        cache: VectorCache,
        location: Location,
        request: Mapping[str, Any],
        width: int | None,
        dimension: int,
        poll_seconds: float,
        run: Run,
    ) -> None:
        self.service, self.cache, self.location, self.run = service, cache, location, run
        self.request, self.width, self.dimension, self.poll_seconds = request, width, dimension, poll_seconds

    def finish_earlier(self) -> None:
        """Waits for the batches that an earlier run left, and takes their vectors."""
        jobs = [name.removeprefix(JOB) for name in self.location.names() if name.startswith(JOB)]
        if jobs:
            self.run.say(f"going on with {len(jobs)} batches of an earlier run")
            self._collect(jobs)

    def get(self, windows: Iterable[Mapping[bytes, str]]) -> None:
        """Has texts embedded, by their digests.

        Raises:
            UpstreamError: The service refuses, or some texts failed; the vectors of all others are kept.
        """
        failed = self._collect([self._submit(lines) for lines in _files(windows, self.request)])
        if failed.texts:
            raise UpstreamError(
                f"{self.service.host}: {failed.texts:,} texts failed in their batches (the first: {failed.said}); all "
                "others are kept, and the same command asks for the rest alone"
            )

    def _submit(self, lines: dict[bytes, bytes]) -> str:
        content = b"".join(lines.values())
        key = hashlib.sha256(content).hexdigest()
        files, ask = self.service.client.files, self.service.ask
        batch_id = ask(lambda: self._known(key))
        if batch_id is None:
            file = (f"{key[:16]}.jsonl", content)
            uploaded = ask(lambda: _text_of(files.create(file=file, purpose="batch"), "id"))
            # A lost answer does not mean that there is no batch, so that every attempt looks first.
            batch_id = ask(lambda: self._known(key) or self._create(uploaded, key))
        job = {"digests": [digest.hex() for digest in lines]}
        self.location.put(f"{JOB}{batch_id}", json.dumps(job).encode())
        self.run.say(f"batch {batch_id}: {len(lines):,} texts")
        return batch_id

    def _known(self, key: str) -> str | None:
        """A batch of these requests that a killed run could not write down any more."""
        ended = {name.removeprefix(ENDED_JOB) for name in self.location.names() if name.startswith(ENDED_JOB)}
        answer = json.loads(self.service.client.batches.with_raw_response.list(limit=100).content)
        try:
            found = [
                str(batch["id"])
                for batch in answer["data"]
                if (batch.get("metadata") or {}).get("modalrec") == key and batch["status"] in ALIVE
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"no list of batches ({error!r})") from None
        return next((batch_id for batch_id in found if batch_id not in ended), None)

    def _create(self, file_id: str, key: str) -> str:
        create = self.service.client.batches.create
        metadata = {"modalrec": key}
        batch = create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h", metadata=metadata)
        return _text_of(batch, "id")

    def _collect(self, jobs: list[str]) -> Failed:
        """Waits until batches have ended, takes their vectors and forgets them."""
        failed, waiting = Failed(), list(jobs)
        with self.run.progress("batches", len(jobs)) as progress:
            while waiting:
                for job in list(waiting):
                    batch = self.service.ask(partial(self._look, job))
                    if batch.status in ENDED:
                        failed = self._take(batch, failed)
                        self.location.put(f"{ENDED_JOB}{job}", b"")
                        self.location.delete(f"{JOB}{job}")
                        waiting.remove(job)
                        progress.advance()
                if waiting:
                    self.service.stop.wait(self.poll_seconds)
        return failed

    def _look(self, job: str) -> Any:
        batch = self.service.client.batches.retrieve(job)
        if _text_of(batch, "id") != job or not _text_of(batch, "status"):
            raise Damaged(f"no answer about batch {job}")
        return batch

    def _take(self, batch: Any, failed: Failed) -> Failed:
        saved = self.location.get(f"{JOB}{batch.id}")
        wanted = {bytes.fromhex(digest) for digest in json.loads(saved)["digests"]} if saved else set()
        if batch.status == "failed":
            errors = [
                error.message or error.code or "" for error in (batch.errors.data if batch.errors else None) or []
            ]
            return failed.plus(len(wanted), f"batch {batch.id} was refused: {'; '.join(errors)[:200]}")
        said = self.service.ask(partial(self._read, batch, wanted)) or f"batch {batch.id} {batch.status}"
        return failed.plus(sum(digest not in self.cache for digest in wanted), said)

    def _read(self, batch: Any, wanted: set[bytes]) -> str:
        """Takes the vectors of a batch, some at a time; what the service says of the first text that failed."""
        said, seen = "", set()
        rows: dict[bytes, Any] = {}
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            for line in self.service.client.files.content(file_id).content.splitlines():
                digest, body, error = _line(line)
                if digest in seen or digest not in wanted:
                    raise Damaged(f"{file_id}: the row of {digest.hex()} stands there twice, or nobody asked for it")
                seen.add(digest)
                if body is None:
                    said = said or error
                elif digest not in self.cache:
                    rows[digest] = vector_of(body, self.width, self.dimension)
                if len(rows) == ROWS:
                    self._keep(rows)
        self._keep(rows)
        if batch.status == "completed" and len(seen) < len(wanted):
            raise Damaged(f"batch {batch.id} is completed, and {len(wanted) - len(seen):,} of its texts have no line")
        return said

    def _keep(self, rows: dict[bytes, Any]) -> None:
        if rows:
            self.cache.add(list(rows), np.stack(list(rows.values())))
            rows.clear()


def _files(windows: Iterable[Mapping[bytes, str]], request: Mapping[str, Any]) -> Iterator[dict[bytes, bytes]]:
    """Lines of requests by digest, as many as one file may have."""
    lines: dict[bytes, bytes] = {}
    size = 0
    for window in windows:
        for digest, text in window.items():
            body = {**request, "input": text}
            entry = {"custom_id": digest.hex(), "method": "POST", "url": "/v1/embeddings", "body": body}
            lines[digest] = json.dumps(entry).encode() + b"\n"
            size += len(lines[digest])
            if len(lines) == LIMIT_TEXTS or size > LIMIT_BYTES:
                yield lines
                lines, size = {}, 0
    if lines:
        yield lines


def _text_of(answer: Any, field: str) -> str:
    """A field of an answer, which the SDK passes on whatever it holds."""
    found = getattr(answer, field, None)
    if not isinstance(found, str) or not found:
        raise Damaged(f"an answer without {field}")
    return found


def _line(line: bytes) -> tuple[bytes, Any, str]:
    """Digest, numbers of the vector or None, and what the service says instead, of a line of a result."""
    try:
        row = json.loads(line)
        digest, response = bytes.fromhex(row["custom_id"]), row.get("response") or {}
        if row.get("error") or response.get("status_code") != 200:
            told = row.get("error") or (response.get("body") or {}).get("error") or {}
            return digest, None, f"HTTP {response.get('status_code')}: {str(told.get('message'))[:200]}"
        data = response["body"]["data"]
        if [entry["index"] for entry in data] != [0]:
            raise Damaged(f"the answer to {digest.hex()} is not one row")
        return digest, numbers_of(data[0]["embedding"]), ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"a line of a batch: {type(error).__name__}: {str(error)[:100]}") from None
