"""The application: a model's lists by POST, its state, its health and its numbers by GET."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

import modalrec
from modalrec.config import dump
from modalrec.serving.batching import Batcher, Question
from modalrec.serving.config import ServeConfig
from modalrec.serving.metrics import Meters
from modalrec.serving.middleware import BodyLimit, Measured
from modalrec.serving.problems import RESPONSES, Fault, Refused, add_problems, fault
from modalrec.serving.schemas import Answer, Ask, Described, Health, Instances, Item, ModelState, Predictions
from modalrec.stages.recommend import Recommended, Server

NEXT_STEPS = {
    "k": "ask for a shorter list, or raise max_k",
    "history": "send the newest items, or raise max_history",
    "instances": "send several requests, or raise max_instances",
}


def create_app(server: Server, name: str = "modalrec", config: ServeConfig | None = None) -> FastAPI:
    """The application around one model.

    Args:
        server: The model.
        name: What KServe's protocol calls it.
        config: Limits.
    """
    config = config or ServeConfig()
    meters, manifest = Meters(), server.manifest
    described = Described(
        name=name,
        recommender=server.model.config.name,
        digest=manifest.digest,
        code_version=manifest.code_version,
        items=len(server.model.items),
        limits=dump(config),
    )
    meters.items.set(described.items)
    meters.model.info({"name": name, "recommender": described.recommender, "digest": manifest.digest})
    batcher = Batcher(server, config, meters)

    @asynccontextmanager
    async def working(app: FastAPI) -> AsyncIterator[None]:
        async with batcher:
            yield

    app = FastAPI(
        title="modalrec",
        version=modalrec.__version__,
        summary=f"{described.recommender} over {described.items:,} items",
        description=(
            f"Recommendations after a history. Lists have up to {config.max_k} items, histories up to "
            f"{config.max_history}, a request up to {config.max_instances} histories and {config.max_body_bytes:,} "
            "bytes. Errors are problem details (RFC 9457)."
        ),
        lifespan=working,
    )
    app.add_middleware(BodyLimit, max_bytes=config.max_body_bytes)
    app.add_middleware(Measured, meters=meters)
    add_problems(app)

    async def answer(asks: Sequence[Ask], prefix: str = "") -> list[Answer]:
        _refuse_beyond_limits(asks, config, prefix)
        unknown = [server.unknown(ask.history) for ask in asks]
        meters.unknown.inc(sum(map(len, unknown)))
        _refuse_unknown(asks, unknown, prefix)
        questions = [Question(ask.k, ask.mask_seen) for ask in asks]
        lists = await batcher.ask([ask.history for ask in asks], questions)
        return [Answer(items=_items(found), unknown_items=left) for found, left in zip(lists, unknown, strict=True)]

    @app.post("/recommend", tags=["recommend"], responses=RESPONSES)
    async def recommend(ask: Ask) -> Answer:
        """The best items after one history."""
        (found,) = await answer([ask])
        return found

    @app.post(f"/v1/models/{name}:predict", tags=["recommend"], responses=RESPONSES)
    async def predict(asked: Instances) -> Predictions:
        """The best items after each of several histories (KServe's protocol v1)."""
        if len(asked.instances) > config.max_instances:
            _refuse("instances", len(asked.instances), config.max_instances)
        return Predictions(predictions=await answer(asked.instances, "instances."))

    @app.get(f"/v1/models/{name}", tags=["model"])
    async def state() -> ModelState:
        """Whether the model is ready (KServe's protocol v1)."""
        return ModelState(name=name, ready=True)

    @app.get("/model", tags=["model"])
    async def describe() -> Described:
        """What is served, and within which limits."""
        return described

    @app.get("/health/live", tags=["health"])
    async def live() -> Health:
        """The process answers."""
        return Health(status="ok")

    @app.get("/health/ready", tags=["health"], responses={503: RESPONSES[503]})
    async def ready() -> Health:
        """The model takes requests: it is loaded, and fewer wait than may."""
        if batcher.full:
            raise Refused(503, f"{config.max_waiting} histories are waiting", "ask again in a second")
        return Health(status="ok")

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(meters.page(), media_type=CONTENT_TYPE_LATEST)

    return app


def _refuse(field: str, found: int, most: int, where: str = "") -> None:
    what = "is" if field == "k" else "has"
    detail = f"{where or field} {what} {found:,}, at most {most:,} are answered"
    raise Refused(422, detail, NEXT_STEPS[field], [fault(where or field, found, f"at most {most:,}")])


def _refuse_beyond_limits(asks: Sequence[Ask], config: ServeConfig, prefix: str) -> None:
    for row, ask in enumerate(asks):
        place = f"{prefix}{row}." if prefix else ""
        if ask.k > config.max_k:
            _refuse("k", ask.k, config.max_k, f"{place}k")
        if len(ask.history) > config.max_history:
            _refuse("history", len(ask.history), config.max_history, f"{place}history")


def _refuse_unknown(asks: Sequence[Ask], unknown: Sequence[Sequence[str]], prefix: str) -> None:
    """Refuses histories of which nothing is left, all at once."""
    faults: list[Fault] = []
    for row, (ask, left) in enumerate(zip(asks, unknown, strict=True)):
        if len(left) == len(ask.history):
            where = f"{prefix}{row}.history" if prefix else "history"
            faults.append(fault(where, ", ".join(left[:5]), "the model has none of these items"))
    if faults:
        detail = f"{faults[0].where} ({faults[0].value}): the model has none of its items"
        step = "give an item that it has; `modalrec encode-items` gives it new ones without training"
        raise Refused(422, detail, step, faults)


def _items(found: Sequence[Recommended]) -> list[Item]:
    return [Item(item_id=one.item_id, title=one.title, score=one.score) for one in found]
