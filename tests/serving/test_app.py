"""What a server answers: lists as the command gives them, and problems that name the field and the next step."""

import re
from pathlib import Path
from typing import Any

import pytest
import urllib3

from modalrec.config import resolve
from modalrec.serving.app import create_app
from modalrec.stages.encode_items import Config, encode_items
from modalrec.stages.recommend import Server
from tests.serving.conftest import Client, Serve, running
from tests.stages.test_encode_items import KNOWN, NEW, QUIET, table


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    with running(create_app(server, "films")) as found:
        yield found


def names(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_it_answers_what_the_command_answers(client: Client, server: Server) -> None:
    (expected,) = server.recommend([["f1", "f2"]], 4)
    reply = client.post("/recommend", {"history": ["f1", "gone", "f2"], "k": 4})
    assert reply.status == 200
    assert reply.body == {
        "items": [{"item_id": one.item_id, "title": one.title, "score": one.score} for one in expected],
        "unknown_items": ["gone"],
    }
    assert reply.body["items"][0]["title"] == KNOWN[expected[0].item_id]


def test_seen_items_and_lists_longer_than_the_catalogue(client: Client) -> None:
    ask = {"history": ["f1", "f2"], "k": 50}
    assert set(names(client.post("/recommend", ask).body)) == set(KNOWN) - {"f1", "f2"}
    assert set(names(client.post("/recommend", ask | {"mask_seen": False}).body)) == set(KNOWN)


def test_several_histories_in_the_form_of_kserve(client: Client, server: Server) -> None:
    asks = [
        {"history": ["f1"], "k": 2},
        {"history": ["f3", "f4"], "k": 5},
        {"history": ["f1"], "k": 2, "mask_seen": False},
    ]
    reply = client.post("/v1/models/films:predict", {"instances": asks})
    assert reply.status == 200
    alone = [client.post("/recommend", ask).body for ask in asks]
    assert list(map(names, reply.body["predictions"])) == list(map(names, alone))
    assert client.get("/v1/models/films").body == {"name": "films", "ready": True}


def test_items_that_came_after_training_are_served(model: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(table(NEW))
    encode_items(model, tmp_path / "new.csv", tmp_path / "today", config=resolve(Config, {}), run=QUIET)
    with running(create_app(Server(tmp_path / "today"))) as client:
        reply = client.post("/recommend", {"history": ["n0"], "k": 20})
        found = {item["item_id"]: item["title"] for item in reply.body["items"]}
    assert found["n1"] == NEW["n1"]
    assert reply.body["unknown_items"] == []


WRONG: list[tuple[Any, int, str, str]] = [
    ({"history": []}, 422, "history", "at least 1 item"),
    ({"history": ["f1"], "k": 0}, 422, "k", "greater than or equal to 1"),
    ({"history": ["f1"], "kk": 3}, 422, "kk", "Extra inputs"),
    ({"history": ["f1", None]}, 422, "history.1", "valid string"),
    ({"history": ["f1"], "k": 101}, 422, "k", "at most 100"),
    ({"history": ["f1"] * 1001}, 422, "history", "at most 1,000"),
    ({"history": ["gone", "lost"]}, 422, "history", "the model has none of these items"),
    (b"{", 422, "1", "JSON decode error"),
    ([1], 422, "body", "valid dictionary or object"),
]


@pytest.mark.parametrize(("body", "status", "where", "problem"), WRONG, ids=[f"{w}: {p}" for _, _, w, p in WRONG])
def test_a_problem_names_the_field_and_the_next_step(
    body: Any, status: int, where: str, problem: str, client: Client
) -> None:
    reply = client.post("/recommend", body)
    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.body["status"] == status
    assert reply.body["next_step"]
    assert [one["where"] for one in reply.body["errors"]] == [where]
    assert problem in reply.body["errors"][0]["problem"]


def test_problems_of_several_histories_are_named_at_once(client: Client) -> None:
    asks = [{"history": ["gone"]}, {"history": ["f1"]}, {"history": ["lost"]}]
    reply = client.post("/v1/models/films:predict", {"instances": asks})
    assert [one["where"] for one in reply.body["errors"]] == ["instances.0.history", "instances.2.history"]
    assert "encode-items" in reply.body["next_step"]


def test_limits_are_settings(serve: Serve) -> None:
    client = serve(max_body_bytes=200, max_instances=2, max_k=3)
    reply = client.post("/recommend", {"history": ["f1"] * 100})
    assert (reply.status, reply.body["title"]) == (413, "Request too large")
    assert "at most 200 are read" in reply.body["detail"]
    reply = client.post("/v1/models/films:predict", {"instances": [{"history": ["f1"]}] * 3})
    assert reply.body["errors"] == [{"where": "instances", "value": "3", "problem": "at most 2"}]
    assert client.post("/recommend", {"history": ["f1"], "k": 4}).status == 422
    assert client.get("/model").body["limits"]["max_k"] == 3


def test_a_body_without_a_length_is_measured_as_it_comes(serve: Serve) -> None:
    client = serve(max_body_bytes=200)
    chunks = (b"[" * 50 for _ in range(100))
    assert urllib3.request("POST", f"{client.address}/recommend", body=chunks, retries=False).status == 413


def test_addresses_that_do_not_exist(client: Client) -> None:
    for reply, status in ((client.get("/nowhere"), 404), (client.get("/recommend"), 405)):
        assert reply.status == status
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert "/openapi.json" in reply.body["next_step"]


def test_health_and_what_is_served(client: Client, server: Server) -> None:
    assert client.get("/health/live").body == client.get("/health/ready").body == {"status": "ok"}
    described = client.get("/model").body
    assert (described["recommender"], described["items"]) == ("sasrec", 8)
    assert described["digest"] == server.manifest.digest


def test_numbers_for_prometheus(serve: Serve) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    client = serve()
    for history in (["f1"], ["f2", "gone"], ["gone"]):
        client.post("/recommend", {"history": history})
    client.get("/nowhere")
    page = client.get("/metrics")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.body)
        for sample in family.samples
    }
    assert samples["modalrec_requests_total", "/recommend", "200"] == 2
    assert samples["modalrec_requests_total", "/recommend", "422"] == 1
    assert samples["modalrec_requests_total", "none", "404"] == 1
    assert samples["modalrec_request_seconds_count", "/recommend"] == 3
    assert samples[("modalrec_batch_histories_sum",)] == 2
    assert samples[("modalrec_unknown_items_total",)] == 2
    assert samples[("modalrec_catalogue_items",)] == 8
    assert samples[("modalrec_waiting_histories",)] == 0
    assert samples[("process_resident_memory_bytes",)] > 0


def test_the_document_describes_every_field_and_error(client: Client) -> None:
    document = client.get("/openapi.json").body
    routes = {(path, verb): one for path, verbs in document["paths"].items() for verb, one in verbs.items()}
    assert {"/recommend", "/v1/models/films:predict", "/health/ready", "/metrics"} <= {path for path, _ in routes}
    assert all(one["description"] for one in routes.values())
    schemas = document["components"]["schemas"]
    for name in ("Ask", "Item", "Answer", "Problem", "Fault", "Described"):
        fields = schemas[name]["properties"]
        assert [field for field, one in fields.items() if "description" not in one] == []
    assert schemas["Ask"]["examples"][0]["history"]
    refused = routes["/recommend", "post"]["responses"]
    assert {"200", "413", "422", "503"} == set(refused)
    assert list(refused["422"]["content"]) == ["application/problem+json"]
    assert re.search(r"up to 100 items", document["info"]["description"])
