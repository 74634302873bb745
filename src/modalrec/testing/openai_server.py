"""A server of OpenAI's embeddings interface on loopback, with its faults: for encoders that ask such servers.

It answers `/embeddings`, `/files` and `/batches` with vectors of hashed words, so that related texts are near, and
counts what a real one would charge for. Faults of the transport alone are those of `modalrec.testing.faults.faulty`.
"""

import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from modalrec.encoders.hashing import Hashing, HashingConfig
from modalrec.testing.faults import running

ROWS = ("short", "reordered", "nan", "zero", "width", "duplicate", "index", "extra")
"""Damage to the rows of an answer."""


@dataclass
class Trouble:
    """One way to fail.

    Attributes:
        kind: `status` (an error of this HTTP status and code), `truncate` (half of the JSON as if it were all), `list`
            (valid JSON of another form), or one of `ROWS`: rows missing at the end, in another order, not finite, zero,
            of another length, one twice instead of another, of an index that is none, or one more than asked for. In
            batches: `partly` (every third text fails), `expired` (the last half is not worked off), `failed` (the
            batch is refused).
        times: How often to fail; -1 for ever.
        after: Requests that go well before.
        status: For `status`.
        code: For `status`, the error's code, such as insufficient_quota.
        seconds: For `status`, what `retry-after` says.
    """

    kind: str
    times: int = 1
    after: int = 0
    status: int = 500
    code: str | None = None
    seconds: float | None = None


class EmbeddingsServer(ThreadingHTTPServer):
    """The server; `served` runs one.

    Attributes:
        url: Its base URL.
        width: Length of the vectors of a request that does not say.
        key: What it asks for as key; None for any or none.
        troubles: What is to go wrong; the first that fits is taken.
        paid: How often each text was embedded.
        requests: "METHOD path" of all requests seen.
        keys: The Authorization headers seen.
        polls: How often a batch is looked at before it has ended.
        batches: The batches, by id.
    """

    daemon_threads = True

    def __init__(self, width: int = 32, key: str | None = None, polls: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.width, self.key, self.polls = width, key, polls
        self.troubles: list[Trouble] = []
        self.paid: Counter[str] = Counter()
        self.requests: list[str] = []
        self.keys: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.lock = threading.RLock()

    def take(self, kinds: tuple[str, ...]) -> Trouble | None:
        """The first trouble of one of these kinds, one of its times used up."""
        with self.lock:
            for trouble in self.troubles:
                if trouble.kind in kinds and trouble.times:
                    if trouble.after:
                        trouble.after -= 1
                        return None
                    trouble.times -= 1
                    return trouble
        return None

    def embed(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; the texts are paid for."""
        texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
        width = request.get("dimensions") or self.width
        vectors = Hashing(HashingConfig(dimension=width), "cpu").encode_texts(texts)
        with self.lock:
            self.paid.update(texts)
        rows = []
        for index, vector in enumerate(vectors):
            plain = vector.tolist()
            written = (
                base64.b64encode(vector.tobytes()).decode() if request.get("encoding_format") == "base64" else plain
            )
            rows.append({"object": "embedding", "index": index, "embedding": written})
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": rows, "model": request["model"], "usage": usage}

    def work_off(self, batch: dict[str, Any]) -> None:
        """Ends a batch, and writes its output and error files."""
        trouble = self.take(("partly", "expired", "failed"))
        if trouble and trouble.kind == "failed":
            batch |= {
                "status": "failed",
                "errors": {"data": [{"code": "x", "message": "Enqueued token limit reached"}]},
            }
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        good, bad = [], []
        for place, line in enumerate(lines):
            if trouble and trouble.kind == "expired" and 2 * place >= len(lines):
                continue
            if trouble and trouble.kind == "partly" and place % 3 == 0:
                body = {"error": {"message": "The server had an error", "code": "server_error"}}
                bad.append({"custom_id": line["custom_id"], "response": {"status_code": 500, "body": body}})
                continue
            answer = _damaged(self.embed(line["body"]), self.take(ROWS))
            good.append({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": answer}})
        good.reverse()  # the order of results is not that of requests
        batch["status"] = "expired" if trouble and trouble.kind == "expired" else "completed"
        for field, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                batch[field] = f"{batch['id']}-{field}"
                self.files[batch[field]] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the plan."""


@contextmanager
def served(*troubles: Trouble, **settings: Any) -> Iterator[EmbeddingsServer]:
    """Runs a server with these troubles; `settings` are its arguments."""
    server = EmbeddingsServer(**settings)
    server.troubles = list(troubles)
    with running(server):
        yield server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: EmbeddingsServer

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._refused():
            return
        if self.path.endswith("/embeddings"):
            trouble = self.server.take(("truncate", "list", *ROWS))
            body = json.dumps(_damaged(self.server.embed(json.loads(content)), trouble)).encode()
            return self._answer(200, body[: len(body) // 2] if trouble and trouble.kind == "truncate" else body)
        with self.server.lock:
            if self.path.endswith("/files"):
                name = f"file-{len(self.server.files)}"
                self.server.files[name] = _uploaded(self.headers["Content-Type"], content)
                return self._json({"id": name, "object": "file", "purpose": "batch", "filename": "x.jsonl"})
            name = f"job-{len(self.server.batches)}"
            batch: dict[str, Any] = {"id": name, "object": "batch", "status": "in_progress", "looks": self.server.polls}
            self.server.batches[name] = batch | json.loads(content)
            return self._json(self.server.batches[name])

    def do_GET(self) -> None:
        if self._refused():
            return
        parts = self.path.partition("?")[0].split("/")
        with self.server.lock:
            if parts[-1] == "content":
                return self._answer(200, self.server.files[parts[-2]])
            if parts[-1] == "batches":
                found = list(self.server.batches.values())[::-1]
                return self._json({"object": "list", "data": found, "has_more": False})
            batch = self.server.batches[parts[-1]]
            if batch["status"] == "in_progress" and batch["looks"] <= 0:
                self.server.work_off(batch)
            batch["looks"] -= 1
            return self._json(batch)

    def _refused(self) -> bool:
        with self.server.lock:
            self.server.requests.append(f"{self.command} {self.path.partition('?')[0]}")
            self.server.keys.add(self.headers.get("Authorization", ""))
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            error: dict[str, Any] = {"message": f"Incorrect API key provided: {given}.", "code": "invalid_api_key"}
            self._answer(401, json.dumps({"error": error}).encode())
            return True
        trouble = self.server.take(("status",))
        if trouble is None:
            return False
        error = {"message": "A trouble", "type": trouble.code, "code": trouble.code}
        headers = {} if trouble.seconds is None else {"retry-after": f"{trouble.seconds:g}"}
        self._answer(trouble.status, json.dumps({"error": error}).encode(), headers)
        return True

    def _json(self, value: dict[str, Any]) -> None:
        self._answer(200, json.dumps(value).encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _damaged(answer: dict[str, Any], trouble: Trouble | None) -> Any:
    if trouble is None or trouble.kind == "truncate":
        return answer
    if trouble.kind == "list":
        return [answer]
    rows = answer["data"]
    last = rows[-1]["embedding"]
    numbers = np.frombuffer(base64.b64decode(last), "<f4") if isinstance(last, str) else np.array(last, "<f4")

    def written(values: Any) -> Any:
        values = np.asarray(values, "<f4")
        return base64.b64encode(values.tobytes()).decode() if isinstance(last, str) else values.tolist()

    if trouble.kind == "short":
        rows.pop()
    elif trouble.kind == "reordered":
        rows.reverse()
    elif trouble.kind in ("nan", "zero", "width"):
        values = {
            "nan": np.where(np.arange(len(numbers)) == 1, np.nan, numbers),
            "zero": 0 * numbers,
            "width": numbers[1:],
        }
        rows[-1]["embedding"] = written(values[trouble.kind])
    elif trouble.kind == "duplicate":
        rows[-1]["index"] = 0
        rows.append({**rows[-1], "index": 0})
    elif trouble.kind == "index":
        rows[-1]["index"] = len(rows)
    else:
        rows.append({**rows[-1], "index": len(rows)})
    return answer


def _uploaded(kind: str, content: bytes) -> bytes:
    """The file of a multipart form."""
    form = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + content)
    for part in form.walk():
        if part.get_filename():
            return bytes(part.get_payload(decode=True))
    raise ValueError("no file in the form")
