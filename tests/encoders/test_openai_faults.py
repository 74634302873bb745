"""Faults of a server of embeddings: finished requests are kept, a rerun pays for the rest alone, rows never mix."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from modalrec.encoders import _openai_batches as batches
from modalrec.encoders import _openai_service as service
from modalrec.encoders.openai import OpenAI, OpenAIConfig
from modalrec.errors import ConfigError, UpstreamError
from modalrec.run import Run
from modalrec.testing.faults import Fault, faulty
from modalrec.testing.openai_server import EmbeddingsServer, Trouble, served
from tests.encoders.test_openai import TEXTS, build, expect, expected

PASSING = [
    *(Trouble("status", times=2, status=status) for status in (408, 409, 429, 500, 502, 503, 504)),
    Trouble("status", times=2, status=429, seconds=0.02),
    *(Trouble(kind) for kind in ("short", "nan", "zero", "duplicate", "index", "extra", "truncate", "list")),
]
FINAL = [
    (
        Trouble("status", times=-1, status=401, code="invalid_api_key"),
        r"refuses the key \(HTTP 401\); set OPENAI_API_KEY",
    ),
    (Trouble("status", times=-1, status=429, code="insufficient_quota"), "no quota is left"),
    (Trouble("status", times=-1, status=403), r"refuses the request \(HTTP 403, A trouble\)"),
    (Trouble("status", times=-1, status=400), r"refuses the request \(HTTP 400"),
    (Trouble("status", times=-1, status=404, code="model_not_found"), r"refuses the request \(HTTP 404"),
    (Trouble("width", times=-1), "vectors of length 31, and dimensions=32"),
]
LASTING = [
    (Trouble("status", times=-1, status=503), r"fails, 3 attempts \(HTTP 503, A trouble\)"),
    (Trouble("status", times=-1, status=429), r"fails, 3 attempts \(HTTP 429, A trouble\)"),
    *(
        (Trouble(kind, times=-1), "damaged answers")
        for kind in ("short", "nan", "duplicate", "index", "truncate", "list")
    ),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def name_of(trouble: object) -> str:
    return f"{trouble.kind} {trouble.status} {trouble.code or ''}".strip() if isinstance(trouble, Trouble) else ""


def check_all_are_there(server: EmbeddingsServer, folder: Path, paid_at_most: int = 1) -> None:
    encoder = build(server)
    expect(encoder, folder)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
    assert max(server.paid.values()) <= paid_at_most


@pytest.mark.fault("openai")
@pytest.mark.parametrize("after", [0, 2, 5])
@pytest.mark.parametrize("trouble", PASSING, ids=name_of)
def test_what_passes_is_tried_again(trouble: Trouble, after: int, tmp_path: Path) -> None:
    with served(Trouble(**{**vars(trouble), "after": after})) as server:
        encoder = build(server, attempts=4)
        expect(encoder, tmp_path)
        np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
        bought_twice = 0 if trouble.kind == "status" else 8
        assert server.paid.total() <= len(TEXTS) + bought_twice


@pytest.mark.fault("openai")
@pytest.mark.parametrize("after", [0, 1, 4])
@pytest.mark.parametrize(("trouble", "message"), FINAL, ids=name_of)
def test_what_does_not_pass_ends_at_once_and_finished_requests_are_kept(
    trouble: Trouble, message: str, after: int, tmp_path: Path
) -> None:
    with served(Trouble(**{**vars(trouble), "after": after})) as server:
        with pytest.raises(UpstreamError, match=message):
            expect(build(server, concurrency=1), tmp_path)
        assert len(server.requests) == after + 1, "no request after the one that was refused"
        server.troubles = []
        kept = len(list(tmp_path.rglob("vectors-*")))
        assert kept == after
        lost = 8 if trouble.kind == "width" else 0
        check_all_are_there(server, tmp_path, 2 if lost else 1)
        assert server.paid.total() <= len(TEXTS) + lost


@pytest.mark.fault("openai")
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(("trouble", "message"), LASTING, ids=name_of)
def test_what_lasts_ends_after_some_attempts(trouble: Trouble, message: str, after: int, tmp_path: Path) -> None:
    with served(Trouble(**{**vars(trouble), "after": after})) as server:
        with pytest.raises(UpstreamError, match=message):
            expect(build(server, attempts=3, concurrency=1), tmp_path)
        tried = 3 if trouble.kind == "status" else service.ATTEMPTS_AT_DAMAGE
        assert len(server.requests) == after + tried
        server.troubles = []
        check_all_are_there(server, tmp_path, 1 + (trouble.kind != "status") * tried)


@pytest.mark.fault("openai")
@pytest.mark.parametrize("kind", ["empty", "truncate", "short", "reset", "hang"])
@pytest.mark.parametrize("times", [1, 2, -1])
def test_faults_of_the_transport(kind: str, times: int, tmp_path: Path) -> None:
    with served() as server, faulty(server.url, Fault(kind, times=times, method="POST", seconds=0.4)) as proxy:
        settings = {"base_url": f"{proxy.url}/v1", "attempts": 3, "timeout": 0.2 if kind == "hang" else 5}
        encoder = build(server, **settings)
        if times > 0:
            expect(encoder, tmp_path)
            np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
            return
        with pytest.raises(UpstreamError, match=r"does not answer, 3 attempts|damaged answers"):
            expect(encoder, tmp_path)
        proxy.faults.clear()
        again = build(server, **settings)
        expect(again, tmp_path)
        np.testing.assert_allclose(again.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)


@pytest.mark.fault("openai")
def test_a_server_that_is_not_there() -> None:
    with served() as server:
        url = server.url
    encoder = OpenAI(OpenAIConfig(base_url=url, dimensions=8, attempts=2), "cpu")
    with pytest.raises(
        UpstreamError, match=r"127.0.0.1:\d+: does not answer, 2 attempts \(APIConnectionError\); check"
    ):
        encoder.encode_texts(["a"])


@pytest.mark.fault("openai")
def test_the_server_says_how_long_to_wait(tmp_path: Path) -> None:
    with served(Trouble("status", status=429, seconds=0.5)) as server:
        began = time.monotonic()
        expect(build(server), tmp_path)
        assert time.monotonic() - began >= 0.5
        assert len(server.requests) == 7


@pytest.mark.fault("openai")
def test_one_refusal_ends_the_requests_of_all_threads(tmp_path: Path) -> None:
    with served(Trouble("status", times=-1, status=401)) as server:
        with pytest.raises(UpstreamError, match="refuses the key"):
            expect(build(server, concurrency=4, request_texts=1), tmp_path)
        assert len(server.requests) <= 8


KILLED = """
import sys
from modalrec.encoders.openai import OpenAI, OpenAIConfig
from modalrec.run import Run
url, folder, api = sys.argv[1:]
asked = {"base_url": url, "model": "own", "dimensions": 32, "request_texts": 8, "concurrency": 1}
config = OpenAIConfig(**asked, api=api, poll_seconds=0.05)
texts = [f"film {number} of a series" for number in range(40)]
OpenAI(config, "cpu").expect(lambda: [texts], Run("embed_text", checkpoints=folder, quiet=True))
"""


@pytest.mark.fault("openai")
@pytest.mark.parametrize("api", ["requests", "batch"])
def test_a_killed_run_has_lost_nothing_that_was_finished(api: str, tmp_path: Path) -> None:
    with served(Trouble("status", times=-1, status=503, after=4), polls=1000) as server:
        command = [sys.executable, "-c", KILLED, server.url, str(tmp_path), api]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        while len(server.requests) < 6:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        paid = server.paid.total()
        assert paid == (32 if api == "requests" else 0)
        server.troubles = []
        for batch in server.batches.values():
            batch["looks"] = 0
        encoder = build(server, api=api, poll_seconds=0.01)
        expect(encoder, tmp_path)
        np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
        assert server.paid == dict.fromkeys(TEXTS, 1)
        assert len(server.batches) == (0 if api == "requests" else 1)


@pytest.mark.parametrize("files", [1, 5])
def test_batches(files: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(batches, "LIMIT_TEXTS", 40 // files)
    with served(polls=2) as server:
        encoder = build(server, api="batch", poll_seconds=0.01)
        expect(encoder, tmp_path)
        np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
        assert len(server.batches) == files
        assert server.paid == dict.fromkeys(TEXTS, 1)
        assert not list(tmp_path.rglob("batch-*"))


@pytest.mark.fault("openai")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "partly",
            r"14 texts failed in their batches \(the first: HTTP 500: The server had an error\); all others are",
        ),
        ("expired", r"20 texts failed in their batches \(the first: batch job-0 expired\)"),
        ("failed", r"40 texts failed .*batch job-0 was refused: Enqueued token limit reached"),
    ],
)
def test_a_batch_that_failed_in_part(kind: str, message: str, tmp_path: Path) -> None:
    with served(Trouble(kind)) as server:
        with pytest.raises(UpstreamError, match=message):
            expect(build(server, api="batch", poll_seconds=0.01), tmp_path)
        encoder = build(server, api="batch", poll_seconds=0.01)
        expect(encoder, tmp_path)
        np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
        assert server.paid == dict.fromkeys(TEXTS, 1)


@pytest.mark.fault("openai")
def test_a_batch_that_failed_whole_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    """The same texts make the same file: a batch that has ended and gave nothing is not found again."""
    with served(Trouble("partly")) as server:
        with pytest.raises(UpstreamError, match="1 texts failed"):
            expect(build(server, api="batch", poll_seconds=0.01), tmp_path, TEXTS[:1])
        expect(build(server, api="batch", poll_seconds=0.01), tmp_path, TEXTS[:1])
        assert len(server.batches) == 2


@pytest.mark.fault("openai")
@pytest.mark.parametrize("kind", ["nan", "zero", "short", "extra", "duplicate", "index"])
def test_rows_of_a_batch_are_checked(kind: str, tmp_path: Path) -> None:
    with served(Trouble(kind, after=2)) as server, pytest.raises(UpstreamError, match="damaged answers"):
        expect(build(server, api="batch", poll_seconds=0.01), tmp_path)


@pytest.mark.fault("openai")
@pytest.mark.parametrize("api", ["requests", "batch"])
@pytest.mark.parametrize("after", [0, 3])
def test_rows_in_another_order_are_placed_by_their_index(api: str, after: int, tmp_path: Path) -> None:
    with served(Trouble("reordered", times=-1, after=after)) as server:
        encoder = build(server, api=api, poll_seconds=0.01)
        expect(encoder, tmp_path)
        np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
        assert server.paid == dict.fromkeys(TEXTS, 1)


@pytest.mark.fault("openai")
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (429, "insufficient_quota")])
def test_a_batch_ends_at_once_where_the_key_or_the_quota_is_refused(
    status: int, code: str, after: int, tmp_path: Path
) -> None:
    with served(Trouble("status", times=-1, status=status, code=code, after=after)) as server:
        with pytest.raises(UpstreamError, match=r"refuses the key|no quota is left"):
            expect(build(server, api="batch", poll_seconds=0.01), tmp_path)
        assert len(server.requests) == after + 1
        assert not server.paid


@pytest.mark.guard("openai")
@pytest.mark.parametrize("lost", ["retries", "quota", "rows"])
def test_each_guard_is_needed(lost: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without retries a passing fault ends all; without its name a quota is asked for again; NaN gets in."""
    trouble = {
        "retries": Trouble("status", status=503),
        "quota": Trouble("status", times=-1, status=429, code="insufficient_quota"),
        "rows": Trouble("nan"),
    }[lost]
    monkeypatch.setattr(service, "_no_quota" if lost == "quota" else "_again_at", lambda error: False)
    if lost == "rows":
        monkeypatch.setattr(service, "vector_of", lambda numbers, width, dimension: numbers[:dimension])
    with served(trouble) as server:
        encoder = build(server, attempts=3, concurrency=1)
        if lost == "rows":
            expect(encoder, tmp_path)
            assert np.isnan(encoder.encode_texts(TEXTS)).any()
            return
        with pytest.raises(UpstreamError):
            expect(encoder, tmp_path)
        assert len(server.requests) == (1 if lost == "retries" else 3)


@pytest.mark.fault("openai")
@pytest.mark.parametrize("path", ["/files", "/batches", "/content"])
@pytest.mark.parametrize("kind", ["status", "lost", "reset", "truncate"])
def test_transport_of_batches(kind: str, path: str, tmp_path: Path) -> None:
    """Also an answer that is lost on its way makes no second batch."""
    with served() as server:
        for method in ("POST", "GET"):
            fault = Fault(kind, method=method, path=path, status=503)
            with faulty(server.url, fault) as proxy:
                texts = [f"{method} {text}" for text in TEXTS]
                encoder = build(server, base_url=f"{proxy.url}/v1", api="batch", poll_seconds=0.01)
                expect(encoder, tmp_path / method, texts)
                np.testing.assert_allclose(encoder.encode_texts(texts), expected(texts), atol=1e-7)
        assert max(server.paid.values()) == 1
        assert len(server.batches) == 2


def test_batches_need_a_place(tmp_path: Path) -> None:
    with served() as server, pytest.raises(ConfigError, match="a batch may outlast this run"):
        build(server, api="batch").expect(lambda: [TEXTS], Run("embed_text", quiet=True))
