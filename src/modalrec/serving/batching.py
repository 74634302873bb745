"""Requests that come together are answered together: one call of the model for all that wait."""

import asyncio
import functools
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from modalrec.errors import ModalrecError
from modalrec.serving.config import ServeConfig
from modalrec.serving.metrics import Meters
from modalrec.serving.problems import Refused
from modalrec.stages.recommend import Recommended

LOG = logging.getLogger("uvicorn.error")
"""Where the server itself writes."""


class Answers(Protocol):
    """What can be asked: `stages.recommend.Server`."""

    def recommend(self, histories: Sequence[Sequence[str]], k: int, mask_seen: bool) -> list[list[Recommended]]:
        """The k best items after each history."""


@dataclass(frozen=True)
class Question:
    """What histories of one batch must have in common for one call of the model."""

    k: int
    mask_seen: bool


@dataclass(frozen=True)
class _Waiting:
    history: Sequence[str]
    question: Question
    answer: asyncio.Future[list[Recommended]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Batcher:
    """Gathers histories and asks the model about them, in one thread, so that the event loop stays free.

    A history gets what it would get alone: lists of other lengths, or with seen items, are calls of their own.

    Args:
        model: Answers batches; it is called by one thread at a time.
        config: Limits.
        meters: Counts.
    """

    def __init__(self, model: Answers, config: ServeConfig, meters: Meters) -> None:
        self._model = model
        self._config = config
        self._meters = meters
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None
        meters.waiting.set_function(self._queue.qsize)

    async def __aenter__(self) -> "Batcher":
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *error: object) -> None:
        """Requests have been answered by then: the server waits for them before it ends its application."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(cancel_futures=True)

    @property
    def full(self) -> bool:
        """Whether the next history would be refused."""
        return self._queue.qsize() >= self._config.max_waiting

    async def ask(self, histories: Sequence[Sequence[str]], questions: Sequence[Question]) -> list[list[Recommended]]:
        """The list of each history.

        Raises:
            Refused: Too many wait, or the answer takes too long.
            ModalrecError: The model cannot answer this question.
        """
        if self._queue.qsize() + len(histories) > self._config.max_waiting:
            self._meters.refused.inc(len(histories))
            detail = f"{self._queue.qsize()} histories are waiting, at most {self._config.max_waiting} may"
            raise Refused(503, detail, "ask again in a second, or run more replicas")
        waiting = [_Waiting(*pair) for pair in zip(histories, questions, strict=True)]
        for one in waiting:
            self._queue.put_nowait(one)
        try:
            async with asyncio.timeout(self._config.max_seconds):
                return await asyncio.gather(*(one.answer for one in waiting))
        except TimeoutError:
            detail = f"no answer within {self._config.max_seconds:g} s"
            raise Refused(503, detail, "ask again, run more replicas, or raise max_seconds") from None
        finally:
            for one in waiting:
                one.answer.cancel()

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            if self._config.wait_milliseconds:
                await asyncio.sleep(self._config.wait_milliseconds / 1e3)
            while len(batch) < self._config.max_batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            alike: defaultdict[Question, list[_Waiting]] = defaultdict(list)
            for one in batch:
                if not one.answer.done():  # who asked has gone
                    alike[one.question].append(one)
            for question, some in alike.items():
                await self._answer(question, some)

    async def _answer(self, question: Question, waiting: list[_Waiting]) -> None:
        histories, begin = [one.history for one in waiting], time.perf_counter()
        ask = functools.partial(self._model.recommend, histories, question.k, question.mask_seen)
        try:
            lists = await asyncio.get_running_loop().run_in_executor(self._thread, ask)
        except ModalrecError as error:
            _fail(waiting, error)
            return
        except Exception as error:  # whatever it is, those who wait shall hear of it, and the server goes on
            LOG.exception("the model failed on %d histories, %s", len(waiting), question)
            _fail(waiting, Refused(500, f"{type(error).__name__} in the model", "look into the server's log"))
            return
        self._meters.batches.observe(len(waiting))
        self._meters.model_seconds.observe(time.perf_counter() - begin)
        for one, found in zip(waiting, lists, strict=True):
            if not one.answer.done():
                one.answer.set_result(found)


def _fail(waiting: Sequence[_Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.answer.done():
            one.answer.set_exception(error)
