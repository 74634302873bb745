"""Kubeflow's cache: a changed image or setting never hits, and what did not change always does."""

import copy
from typing import Any

import pytest

from pipelines.runner import recipes
from pipelines.runner.compile import COMPILED
from pipelines.runner.validate import read_documents
from tests.pipelines.keys import keys

SOURCE = {"source": "s3://raw/films"}
CODES = {"settings": {"quantize": {"quantizer": {"codebook_size": 8}}}}


@pytest.fixture(params=recipes.names())
def documents(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return read_documents((COMPILED / f"{request.param}.yaml").read_text())


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    """The steps, without their numbers and where they are, that would run again."""
    assert one.keys() == other.keys()
    return {path.rpartition("/")[2].rstrip("-0123456789") for path in one if one[path] != other[path]}


def test_the_same_run_a_second_time_is_all_from_the_cache(documents: list[dict[str, Any]]) -> None:
    """Nothing of a run, such as its name or the hour, is among what a step is given."""
    first = keys(documents, SOURCE)
    assert len(first) > 5
    assert changed(first, keys(copy.deepcopy(documents), SOURCE)) == set()
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        assert "{{$.pipeline" not in str(executor)
    assert "{{$.pipeline" not in str(documents[0]["components"]) + str(documents[0]["root"])


def test_another_image_source_or_seed_is_never_in_the_cache(documents: list[dict[str, Any]]) -> None:
    first = keys(documents, SOURCE)
    steps = {path.rpartition("/")[2].rstrip("-0123456789") for path in first}
    moved = copy.deepcopy(documents)
    for executor in moved[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] += "-other"
    assert all(first[path] != key for path, key in keys(moved, SOURCE).items())
    assert changed(first, keys(documents, {**SOURCE, "source": "s3://raw/books"})) == steps - {"configure"}
    assert changed(first, keys(documents, {**SOURCE, "seed": 7})) == steps - {"configure"}


def test_a_setting_is_the_matter_of_its_stage_and_of_those_behind_it() -> None:
    documents = read_documents((COMPILED / "semantic_id.yaml").read_text())
    first = keys(documents, SOURCE)
    behind = {"configure", "quantize", "pretrain", "finetune", "evaluate"}
    assert changed(first, keys(documents, {**SOURCE, **CODES})) == behind
    pooled = {"settings": {"embed_image": {"batch_size": 8}}}
    assert changed(first, keys(documents, {**SOURCE, **pooled})) == behind | {"embed-image", "join", "fuse"}
    ranked = {"settings": {"evaluate": {"list_length": 30}}}
    assert changed(first, keys(documents, {**SOURCE, **ranked})) == {"configure", "evaluate"}


def test_what_a_step_runs_on_is_known_to_the_cache_too() -> None:
    """Kubeflow makes parameters of a step of them: other GPUs run it again, and no other step."""
    documents = read_documents((COMPILED / "semantic_id.yaml").read_text())
    first = keys(documents, SOURCE)
    on_gpu = {"embed-text", "embed-image", "join", "fuse", "quantize", "pretrain", "finetune", "evaluate"}
    assert changed(first, keys(documents, {**SOURCE, "accelerator_count": 4})) == on_gpu
    assert changed(first, keys(documents, {**SOURCE, "node_selector": {"pool": "a"}})) == set()
