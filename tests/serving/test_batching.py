"""Batches: what waits together is answered together, each as it would be alone; too much is refused at once."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modalrec.errors import ConfigError
from modalrec.serving.batching import Batcher, Question
from modalrec.serving.config import ServeConfig
from modalrec.serving.metrics import Meters
from modalrec.serving.problems import Refused
from modalrec.stages.recommend import Recommended, Server
from tests.serving.conftest import Serve


class Slow:
    """A model that answers when it is let, and remembers what it was asked."""

    def __init__(self, server: Server) -> None:
        self.manifest, self.model, self.unknown = server.manifest, server.model, server.unknown
        self.server = server
        self.batches: list[tuple[int, int, bool]] = []
        self.go = threading.Event()
        self.begun = threading.Event()

    def recommend(self, histories: Sequence[Sequence[str]], k: int, mask_seen: bool) -> list[list[Recommended]]:
        self.batches.append((len(histories), k, mask_seen))
        self.begun.set()
        assert self.go.wait(20)
        if k == 13:
            raise ConfigError("k 13: brings bad luck; ask for 12")
        return self.server.recommend(histories, k, mask_seen)


ASK = {"history": ["f1"], "k": 3}


def wait_for(condition: Any) -> None:
    ticks = threading.Event()
    for _ in range(1000):
        if condition():
            return
        ticks.wait(0.01)
    raise AssertionError("it never happened")


def test_what_waits_together_is_answered_together_and_as_alone(serve: Serve, server: Server) -> None:
    slow = Slow(server)
    client = serve(slow)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(client.post, "/recommend", ASK)
        assert slow.begun.wait(10)
        histories = [[f"f{number % 8}"] for number in range(8)]
        rest = [pool.submit(client.post, "/recommend", {"history": history, "k": 3}) for history in histories]
        rest += [pool.submit(client.post, "/recommend", {"history": ["f2"], "k": 5, "mask_seen": False})]
        wait_for(lambda: "modalrec_waiting_histories 9.0" in client.get("/metrics").body)
        slow.go.set()
        replies = [one.result() for one in [first, *rest]]
    assert sorted(slow.batches[1:]) == [(1, 5, False), (8, 3, True)]
    for history, reply in zip([["f1"], *histories], replies[:-1], strict=True):
        (alone,) = server.recommend([history], 3)
        assert [item["item_id"] for item in reply.body["items"]] == [one.item_id for one in alone]


def test_a_batch_is_no_longer_than_it_may_be(serve: Serve, server: Server) -> None:
    slow = Slow(server)
    slow.go.set()
    client = serve(slow, max_batch=4)
    reply = client.post("/v1/models/films:predict", {"instances": [ASK] * 10})
    assert len(reply.body["predictions"]) == 10
    assert [n for n, _, _ in slow.batches] == [4, 4, 2]


def test_too_many_are_refused_at_once_and_readiness_says_so(serve: Serve, server: Server) -> None:
    slow = Slow(server)
    client = serve(slow, max_waiting=2)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(client.post, "/recommend", ASK)
        assert slow.begun.wait(10)
        rest = [pool.submit(client.post, "/recommend", ASK) for _ in range(2)]
        wait_for(lambda: client.get("/health/ready").status == 503)
        reply = client.post("/recommend", ASK)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert "2 histories are waiting, at most 2 may" in reply.body["detail"]
        slow.go.set()
        assert [one.result().status for one in [first, *rest]] == [200, 200, 200]
    assert client.get("/health/ready").status == 200


def test_an_answer_that_takes_too_long_is_given_up(serve: Serve, server: Server) -> None:
    slow = Slow(server)
    client = serve(slow, max_seconds=0.2)
    reply = client.post("/recommend", ASK)
    assert reply.status == 503
    assert "no answer within 0.2 s" in reply.body["detail"]
    slow.go.set()
    assert client.post("/recommend", ASK).status == 200


def test_what_the_model_refuses_reaches_those_who_asked_for_it_alone(serve: Serve, server: Server) -> None:
    slow = Slow(server)
    slow.go.set()
    client = serve(slow)
    reply = client.post("/recommend", ASK | {"k": 13})
    assert (reply.status, reply.body["next_step"]) == (422, "ask for 12")
    reply = client.post("/v1/models/films:predict", {"instances": [ASK, ASK | {"k": 13}, ASK | {"k": 13}]})
    assert reply.status == 422
    assert client.post("/recommend", ASK).status == 200


def test_a_fault_of_the_model_is_a_500_without_its_inside(serve: Serve, server: Server) -> None:
    slow = Slow(server)
    slow.go.set()
    slow.server = None  # type: ignore[assignment]
    client = serve(slow)
    reply = client.post("/recommend", ASK)
    assert (reply.status, reply.headers["Content-Type"]) == (500, "application/problem+json")
    assert reply.body["detail"] == "AttributeError in the model"
    assert client.get("/health/live").status == 200


def test_a_batch_can_wait_for_company(server: Server) -> None:
    async def both() -> list[int]:
        slow = Slow(server)
        slow.go.set()
        async with Batcher(slow, ServeConfig(wait_milliseconds=200), Meters()) as batcher:
            question = Question(3, True)
            one = asyncio.create_task(batcher.ask([["f1"]], [question]))
            await asyncio.sleep(0.05)
            await asyncio.gather(one, batcher.ask([["f2"]], [question]))
        return [n for n, _, _ in slow.batches]

    assert asyncio.run(both()) == [2]


def test_who_has_gone_is_not_asked_for(server: Server) -> None:
    async def gone() -> list[int]:
        slow = Slow(server)
        async with Batcher(slow, ServeConfig(max_seconds=0.1), Meters()) as batcher:
            with pytest.raises(Refused):
                await asyncio.gather(*(batcher.ask([["f1"]], [Question(3, True)]) for _ in range(3)))
            slow.go.set()
            await batcher.ask([["f2"]], [Question(2, True)])
        return [k for _, k, _ in slow.batches]

    assert asyncio.run(gone())[-1] == 2
