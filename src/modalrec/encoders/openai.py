"""Text encoder of OpenAI's embeddings interface: its own models, and servers that speak the same.

Texts leave this machine, and each is paid for. So nothing is sent before tokens and cost of all texts are estimated and
below a ceiling; what is paid for is kept at once, by the digest of the text, beside the run's checkpoints, and never
asked for again, whatever ends the run; and the key comes from the environment alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator, model_validator

from modalrec.artifacts.files import sha256_json
from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.encoders._openai_key import HOST, checked_url, host_of, missing_key
from modalrec.encoders._token_estimates import BATCH_DISCOUNT, PRICES, cut_to, estimated_tokens
from modalrec.encoders._vector_cache import VectorCache, digest_of_text
from modalrec.errors import ConfigError, UpstreamError
from modalrec.run import Run

# N texts, D length of the vectors.

WIDTHS = {"text-embedding-3-large": 3072, "text-embedding-3-small": 1536, "text-embedding-ada-002": 1536}
MILLION = 1_000_000


class OpenAIConfig(Config):
    """Settings of the encoder.

    Attributes:
        name: openai.
        model: The server's name of the model.
        dimensions: Length of the vectors; null is the model's own, for OpenAI's models.
        shorten: Who cuts vectors to this length: the server, which is told, or the client, for servers that are not.
        base_url: The server. Any but OpenAI's is asked without a key where none is set.
        api: `requests` of many texts, or `batch`: files that OpenAI works off within a day at half the price.
        request_texts: Texts of a request at most.
        request_tokens: Estimated tokens of a request at most; OpenAI takes 300,000.
        text_tokens: Longer texts are cut to so many estimated tokens; OpenAI's models take 8,191.
        encoding_format: How vectors travel: base64 is a quarter of float, and some servers know float alone.
        concurrency: Requests under way at once.
        requests_per_minute: Not exceeded (OpenAI's first paid tier).
        tokens_per_minute: Not exceeded, as estimated (OpenAI's first paid tier).
        attempts: How often a request is tried, with growing waits, where that may help.
        timeout: Seconds of silence after which a request has failed.
        price: US dollars per million tokens; null is OpenAI's of 2025 for its models, and unknown for other servers.
        max_cost: A run that is estimated to cost more dollars is refused before its first request.
        max_tokens: A run that is estimated to send more tokens is refused before its first request.
        cache: Folder or s3:// URI of vectors that are paid for; null is `openai` beside the run's checkpoints.
        poll_seconds: Between two looks at batches.
    """

    name: Literal["openai"] = "openai"
    model: str = Field("text-embedding-3-large", min_length=1)
    dimensions: PositiveInt | None = 1024
    shorten: Literal["server", "client"] = "server"
    base_url: str = f"https://{HOST}/v1"
    api: Literal["requests", "batch"] = "requests"
    request_texts: int = Field(256, ge=1, le=2048)
    request_tokens: int = Field(100_000, ge=1)
    text_tokens: int = Field(8191, ge=1)
    encoding_format: Literal["base64", "float"] = "base64"
    concurrency: int = Field(8, ge=1, le=256)
    requests_per_minute: float = Field(3000, gt=0)
    tokens_per_minute: float = Field(1_000_000, gt=0)
    attempts: PositiveInt = 8
    timeout: float = Field(60, gt=0)
    price: float | None = Field(None, ge=0)
    max_cost: float | None = Field(5.0, ge=0)
    max_tokens: int | None = Field(None, ge=0)
    cache: str | None = None
    poll_seconds: float = Field(30, gt=0)

    @field_validator("base_url")
    @classmethod
    def _may_be_written_down(cls, base_url: str) -> str:
        return checked_url(base_url)

    @model_validator(mode="after")
    def _width_is_known(self) -> "OpenAIConfig":
        if self.dimensions is None and self.model not in WIDTHS:
            raise ValueError(f"dimensions: nobody here knows the width of {self.model!r}; set it")
        return self

    @property
    def width(self) -> int:
        """Length of the vectors."""
        return self.dimensions or WIDTHS[self.model]


class OpenAI(Encoder):
    """Vectors from a server; `expect` asks for all texts together, `encode_texts` for what is then still missing."""

    Config = OpenAIConfig
    modalities = frozenset({"text"})

    def __init__(self, config: OpenAIConfig, device: str, modality: str = "text", precision: str = "float32") -> None:
        from modalrec.encoders._openai_service import Service  # the SDK takes a second to import

        if reason := missing_key(config.base_url):
            raise UpstreamError(f"openai: {reason}; set it in the environment, or set `fallback` to a local encoder")
        self.config = config
        self.dimension = config.width
        asked = {name: getattr(config, name) for name in ("model", "shorten", "base_url")}
        self.weights = sha256_json({**asked, "dimension": self.dimension})
        limits = config.attempts, config.timeout, config.requests_per_minute, config.tokens_per_minute
        self.service = Service(config.base_url, *limits)
        self.cache = VectorCache(None, self.dimension)
        self.request: dict[str, Any] = {"model": config.model, "encoding_format": config.encoding_format}
        if config.shorten == "server" and config.dimensions is not None:
            self.request["dimensions"] = config.dimensions
        self.spent = {"paid_texts": 0.0, "paid_tokens": 0.0}

    @classmethod
    def unavailable(cls, config: OpenAIConfig) -> str:
        """The missing key."""
        return missing_key(config.base_url)

    def expect(self, contents: Callable[[], Iterable[list[str]]], run: Run) -> None:
        """Asks for all texts that no earlier run has paid for.

        Raises:
            ConfigError: They are estimated to cost more than the ceiling.
            UpstreamError: The server refuses, has no quota left, or fails for long; finished vectors are kept.
        """
        base = self.config.cache or (f"{run.checkpoints.rstrip('/')}/openai" if run.checkpoints else None)
        place = f"{base.rstrip('/')}/{self.weights[:32]}" if base else None
        if place is None:
            run.say(
                "nothing is kept if this run fails: it has no checkpoints; set encoder.cache to a folder or s3:// URI"
            )
        self.cache = VectorCache(place, self.dimension, run.say)
        batches = self._batches(run) if self.config.api == "batch" else None
        if batches is not None:
            batches.finish_earlier()
        known = len(self.cache)
        total = self._estimate(self._missing(contents), run)
        if batches is not None:
            batches.get(self._missing(contents))
        else:
            with run.progress("texts", total) as progress:
                for texts in self._missing(contents):
                    self._ask(texts, progress.advance)
        self.spent["paid_texts"] += len(self.cache) - known

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(texts), dimension]; a blank text is sent as one space, which no server refuses."""
        keys = [digest_of_text(self._sent(text)) for text in texts]
        for missing in self._missing(lambda: [texts]):
            self._ask(missing, lambda done: None)
        return self.cache.get(keys)

    def _sent(self, text: str) -> str:
        return cut_to(text if text.strip() else " ", self.config.text_tokens)

    def _missing(self, contents: Callable[[], Iterable[list[str]]]) -> Iterator[dict[bytes, str]]:
        """Texts that are not in the cache, each once, some at a time."""
        seen: set[bytes] = set()
        for texts in contents():
            sent = [self._sent(text) for text in texts]
            found = {digest_of_text(text): text for text in sent}
            fresh = {digest: text for digest, text in found.items() if digest not in self.cache and digest not in seen}
            seen |= fresh.keys()
            if fresh:
                yield fresh

    def _estimate(self, windows: Iterable[Mapping[bytes, str]], run: Run) -> int:
        """Says what is to be paid, and refuses it above the ceilings; the number of texts."""
        count = tokens = 0
        for texts in windows:
            count += len(texts)
            tokens += sum(map(estimated_tokens, texts.values()))
        config = self.config
        price = PRICES.get(config.model) if host_of(config.base_url) == HOST else None
        price = price if config.price is None else config.price
        if count and price is None and config.max_cost is not None and host_of(config.base_url) == HOST:
            raise ConfigError(
                f"encoder.price: nobody here knows what {config.model!r} costs; set its price per million tokens"
            )
        cost = tokens / MILLION * (price or 0) * (BATCH_DISCOUNT if config.api == "batch" else 1)
        dollars = f" or {cost:.{2 if cost >= 1 else 4}f} USD"
        told = f"about {tokens:,} tokens" + (", at an unknown price" if price is None else dollars)
        run.say(f"{count:,} texts to be asked of {host_of(config.base_url)} ({len(self.cache):,} are here): {told}")
        if config.max_tokens is not None and tokens > config.max_tokens:
            raise ConfigError(
                f"encoder.max_tokens: {count:,} texts have {told}, above {config.max_tokens:,}; set it to {tokens} to "
                "send them"
            )
        if config.max_cost is not None and cost > config.max_cost:
            raise ConfigError(
                f"encoder.max_cost: {count:,} texts have {told}, above {config.max_cost:g} USD; set it to "
                f"{math.ceil(100 * cost) / 100:.2f} to send them"
            )
        return count

    def _ask(self, texts: Mapping[bytes, str], advance: Callable[[int], object]) -> None:
        """Requests of some texts each, several at once; each is kept when it is there, and a fatal error ends all."""
        from modalrec.encoders._openai_service import Stopped

        self.service.stop.clear()
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            futures = [pool.submit(self._one, part) for part in self._parts(texts)]
            try:
                for future in as_completed(futures):
                    if isinstance(future.exception(), Stopped):
                        continue  # the request that ended all tells why
                    done, tokens = future.result()
                    self.spent["paid_tokens"] += tokens
                    advance(done)
            except BaseException:
                self.service.stop.set()  # what is under way is finished and kept, nothing new begins
                raise

    def _one(self, part: Mapping[bytes, str]) -> tuple[int, int]:
        """Asks for a part and keeps it; the number of its texts and of its tokens, as the server counts."""
        from modalrec.encoders._openai_service import rows_of

        tokens = sum(map(estimated_tokens, part.values()))
        create = self.service.client.embeddings.with_raw_response.create
        width = None if self.config.shorten == "client" else self.dimension

        def send() -> tuple[NDArray[np.float32], int]:
            answer = create(input=list(part.values()), **self.request)
            return rows_of(answer.content, len(part), width, self.dimension)

        vectors_BD, counted = self.service.ask(send, tokens)
        self.cache.add(list(part), vectors_BD)
        return len(part), counted

    def _parts(self, texts: Mapping[bytes, str]) -> Iterator[dict[bytes, str]]:
        part: dict[bytes, str] = {}
        tokens = 0
        for digest, text in texts.items():
            own = estimated_tokens(text)
            if part and (len(part) == self.config.request_texts or tokens + own > self.config.request_tokens):
                yield part
                part, tokens = {}, 0
            part[digest] = text
            tokens += own
        yield part

    def _batches(self, run: Run) -> Any:
        from modalrec.encoders._openai_batches import Batches

        if self.cache.location is None:
            raise ConfigError(
                "encoder.api: a batch may outlast this run, and nothing would know of it; run with checkpoints, or set "
                "encoder.cache"
            )
        width = None if self.config.shorten == "client" else self.dimension
        sizes = width, self.dimension, self.config.poll_seconds
        return Batches(self.service, self.cache, self.cache.location, self.request, *sizes, run)
