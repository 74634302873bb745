"""The encoder `openai` against a server on loopback: what it asks for, what it pays, what it never does."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalrec import plugins
from modalrec.config import dump, resolve
from modalrec.encoders import _openai_service as service
from modalrec.encoders._token_estimates import cut_to, estimated_tokens
from modalrec.encoders.hashing import Hashing, HashingConfig
from modalrec.encoders.openai import OpenAI, OpenAIConfig
from modalrec.errors import ConfigError, UpstreamError
from modalrec.run import Run
from modalrec.testing.openai_server import EmbeddingsServer, Trouble, served

TEXTS = [f"film {number} of a series" for number in range(40)]
KEY = "sk-canary-0123456789abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def build(server: EmbeddingsServer, **settings: Any) -> OpenAI:
    given = {"base_url": server.url, "model": "own", "dimensions": 32, "request_texts": 8, "requests_per_minute": 1e6}
    return OpenAI(OpenAIConfig.model_validate({**given, **settings}), "cpu")


def expect(encoder: OpenAI, folder: Path | None, texts: list[str] = TEXTS) -> None:
    run = Run("embed_text", checkpoints=str(folder) if folder else None, quiet=True)
    encoder.expect(lambda: [texts[:25], texts[25:]], run)


def expected(texts: list[str], dimension: int = 32) -> np.ndarray:
    return Hashing(HashingConfig(dimension=dimension), "cpu").encode_texts(texts)


@pytest.mark.parametrize("encoding_format", ["base64", "float"])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_rows_belong_to_their_texts(encoding_format: str, concurrency: int, tmp_path: Path) -> None:
    with served(Trouble("reordered", times=-1)) as server:
        encoder = build(server, encoding_format=encoding_format, concurrency=concurrency)
        expect(encoder, tmp_path)
        assert len(server.requests) == 6
        np.testing.assert_allclose(encoder.encode_texts(TEXTS[::-1]), expected(TEXTS[::-1]), atol=1e-7)
        assert len(server.requests) == 6, "all of them were here"
        assert encoder.spent == {"paid_texts": 40, "paid_tokens": 200}


def test_nothing_is_paid_for_twice(tmp_path: Path) -> None:
    with served() as server:
        expect(build(server), tmp_path, TEXTS[:30])
        again = build(server)
        expect(again, tmp_path, TEXTS + TEXTS[:5])
        np.testing.assert_allclose(again.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
        assert server.paid == dict.fromkeys(TEXTS, 1)
        assert again.spent["paid_texts"] == 10
        expect(build(server, dimensions=16), tmp_path, TEXTS[:1])
        expect(build(server, model="another"), tmp_path, TEXTS[:1])
        assert server.paid[TEXTS[0]] == 3, "another length or model has vectors of its own"


def test_a_damaged_part_is_asked_for_again(tmp_path: Path) -> None:
    with served() as server:
        expect(build(server), tmp_path)
        parts = sorted(tmp_path.rglob("vectors-*"))
        assert len(parts) == 6
        parts[0].write_bytes(parts[0].read_bytes()[:-4])
        content = bytearray(parts[1].read_bytes())
        content[20] ^= 1
        parts[1].write_bytes(content)
        encoder = build(server)
        expect(encoder, tmp_path)
        np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
        assert 2 <= encoder.spent["paid_texts"] <= 16


def test_without_checkpoints_it_works_and_says_that_nothing_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with served() as server:
        build(server).expect(lambda: [TEXTS], Run("embed_text"))
        assert "nothing is kept if this run fails" in capsys.readouterr().err
        assert server.paid.total() == 40


def test_the_server_or_the_client_cuts(tmp_path: Path) -> None:
    with served(width=64) as server:
        cut = build(server, shorten="client").encode_texts(TEXTS)
        whole = expected(TEXTS, 64)[:, :32]
        np.testing.assert_allclose(cut, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)
        np.testing.assert_allclose(build(server).encode_texts(TEXTS), expected(TEXTS), atol=1e-7)
        encoder = build(server, shorten="client", dimensions=100)
        with pytest.raises(UpstreamError, match="vectors of length 64, and dimensions=100"):
            encoder.encode_texts(TEXTS[:1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 100}, r"max_tokens: 40 texts have about \d+ tokens, .* above 100; set it to \d+"),
        ({"price": 1000, "max_cost": 0.01}, r"max_cost: 40 texts have about .* or 0\.\d+ USD, above 0.01 USD; set it"),
    ],
)
def test_ceilings_are_checked_before_the_first_request(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with served() as server:
        with pytest.raises(ConfigError, match=message):
            expect(build(server, **settings), tmp_path)
        assert server.requests == []
        expect(build(server), tmp_path, TEXTS[:39])
        with pytest.raises(ConfigError, match="max_tokens: 1 texts"):
            expect(build(server, max_tokens=1), tmp_path)


def test_a_model_of_unknown_price_is_refused_where_it_would_be_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    encoder = OpenAI(OpenAIConfig(model="text-embedding-9", dimensions=8), "cpu")
    with pytest.raises(ConfigError, match=r"encoder\.price: nobody here knows what 'text-embedding-9' costs"):
        encoder.expect(lambda: [TEXTS], Run("embed_text", quiet=True))


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with served(key=KEY) as server:
        encoder = build(server)
        encoder.expect(lambda: [TEXTS], Run("embed_text", checkpoints=str(tmp_path)))
        assert server.keys == {f"Bearer {KEY}"}
        server.key = "another"
        with pytest.raises(UpstreamError, match=r"refuses the key \(HTTP 401\); set OPENAI_API_KEY") as caught:
            build(server).encode_texts(["new"])
        server.troubles = [Trouble("status", status=400, code=KEY)]
        server.key = KEY
        with pytest.raises(UpstreamError) as refused:
            build(server).encode_texts(["new"])
    shown = [
        str(caught.value),
        str(refused.value),
        repr(caught.value.__cause__),
        str(dump(encoder.config)),
        caplog.text,
    ]
    shown += [
        *capsys.readouterr(),
        *(str(path) + str(path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()),
    ]
    assert not [text for text in shown if KEY in text]


@pytest.mark.parametrize("given", [f"{KEY}\n", f"  {KEY}\r\n"])
def test_the_line_end_of_a_secret_is_no_part_of_the_key(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", given)
    with served(key=KEY) as server:
        assert build(server).encode_texts(["a"]).shape == (1, 32)


@pytest.mark.parametrize(
    "given", ["sk-\u00e9t\u00e9-0123456789abcdef", "sk-two words 0123456789", "sk-a\nb-0123456789abcdef"]
)
def test_a_key_that_cannot_be_one_is_not_sent_or_shown(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", given)
    with (
        served() as server,
        pytest.raises(UpstreamError, match="OPENAI_API_KEY holds characters that no key has") as caught,
    ):
        build(server)
    assert given[:5] not in str(caught.value)


def test_a_cache_may_be_shared_by_models(tmp_path: Path) -> None:
    with served() as server:
        for model in ("own", "another"):
            expect(build(server, model=model, cache=str(tmp_path)), None, TEXTS[:1])
        expect(build(server, cache=str(tmp_path)), None, TEXTS[:1])
        assert server.paid[TEXTS[0]] == 2


def test_openai_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    config = OpenAIConfig()
    assert OpenAI.unavailable(config) == "OPENAI_API_KEY is not set"
    with pytest.raises(UpstreamError, match="OPENAI_API_KEY is not set; set it in the environment, or set `fallback`"):
        OpenAI(config, "cpu")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert OpenAI.unavailable(config) == ""
    assert OpenAI(config, "cpu").dimension == 1024


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "https://me:word@example.org/v1"}, "looks like a secret key"),
        ({"base_url": "https://me@example.org/v1"}, "holds more than host and path"),
        ({"base_url": "https://example.org/v1?key=x"}, "holds more than host and path"),
        ({"base_url": "example.org"}, "is no address such as"),
        ({"base_url": "file:///etc/passwd"}, "is no address such as"),
        ({"model": "own", "dimensions": None}, "nobody here knows the width of 'own'"),
        ({"model": KEY}, "looks like a secret key"),
        ({"api_key": "x"}, "api_key: unknown field"),
        ({"request_texts": 2049}, "less than or equal to 2048"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(OpenAIConfig, settings)
    assert KEY not in str(caught.value)


def test_pace_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests and tokens are spread evenly: the eleventh begins ten intervals after the first."""
    waits: list[float] = []
    server = service.Service("http://localhost/v1", 1, 1, 600, 6000)
    monkeypatch.setattr(service.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(server.stop, "wait", lambda seconds: waits.append(seconds))
    for tokens in (0, 0, 5, 50, 0):
        server.ask(lambda: None, tokens)
    np.testing.assert_allclose(waits, [0, 0.1, 0.2, 0.3, 0.8], atol=1e-9)


@pytest.mark.parametrize(
    ("text", "at_least"),
    [
        # tokens of OpenAI's cl100k_base, as its documentation and tokenizer page count them
        ("tiktoken is great!", 6),
        ("antidisestablishmentarianism", 6),
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 9),
        ("", 0),
    ],
)
def test_estimates_are_on_the_high_side(text: str, at_least: int) -> None:
    assert estimated_tokens(text) >= at_least


def test_long_texts_are_cut_where_they_are_estimated_to_end() -> None:
    long = "word " * 20_000
    cut = cut_to(long, 8191)
    assert estimated_tokens(cut) <= 8191 < estimated_tokens(long[: len(cut) + 5])
    assert cut_to("short", 8191) == "short"
    assert len(cut_to("\U0001f680" * 9000, 100)) == 37


def test_requests_hold_no_more_than_they_may(tmp_path: Path) -> None:
    with served() as server:
        encoder = build(server, request_tokens=30, request_texts=2048)
        sizes = [sum(map(estimated_tokens, part.values())) for part in encoder._parts(dict(enumerate(TEXTS)))]  # type: ignore[arg-type]
        assert max(sizes) <= 30
        assert sum(sizes) == sum(map(estimated_tokens, TEXTS))
        long = "word " * 100
        assert [len(part) for part in encoder._parts({b"a": long, b"b": "x", b"c": long})] == [1, 1, 1]


def test_it_is_a_plug_in() -> None:
    assert plugins.discover("encoders")["openai"] is OpenAI
