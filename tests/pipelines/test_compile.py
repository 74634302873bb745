"""Compiling: golden files, the same from every process, and a validator that finds planted faults."""

import copy
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from modalrec import __version__
from modalrec.errors import ConfigError
from pipelines.placement import TRACKING, TRACKING_KEYS, Accelerator, on_gpu
from pipelines.runner import recipes
from pipelines.runner.compile import COMPILED, compile_recipe, compile_resources, compiled_text
from pipelines.runner.validate import read_documents, validate
from tests.manifests.custom import problems
from tests.pipelines.toy import judge, make

ROOT = Path(__file__).parents[2]
STEPS = [
    f"exec-{name}" for name in ("summarize", "configure", "ingest", "embed-text", "embed-image", "fuse", "quantize")
]
STEPS += ["exec-join", "exec-join-2"]
STEPS += [f"exec-{name}" for name in ("pretrain", "pretrain-2", "pretrain-3", "evaluate", "evaluate-2")]
STEPS += [f"exec-{name}" for name in ("finetune", "finetune-2", "finetune-3", "finetune-4")]
GROUPS = ("condition", "exit-handler", "for-loop")
GPU_STEPS = ("exec-embed", "exec-quantize", "exec-pretrain", "exec-finetune")


@pytest.fixture(scope="module")
def golden() -> list[dict[str, Any]]:
    return read_documents((COMPILED / "semantic_id.yaml").read_text())


def test_the_compiled_recipe_is_valid(golden: list[dict[str, Any]]) -> None:
    assert validate(golden, "semantic_id.yaml").pipeline_info.name == "semantic-id"


@pytest.mark.parametrize("name", recipes.names())
def test_compiled_recipes_are_up_to_date(name: str, tmp_path: Path) -> None:
    """Where this fails, run `make compile` and review the difference."""
    assert compile_recipe(name, tmp_path).read_text() == (COMPILED / f"{name}.yaml").read_text()


def test_another_process_place_and_registry_change_nothing_but_the_image(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    options = ["--out", ".", "--registry", "registry.example.org/team", "--tag", "abc123"]
    command = [sys.executable, "-m", "pipelines", "compile", "semantic_id", *options]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    text, golden = (tmp_path / "semantic_id.yaml").read_text(), (COMPILED / "semantic_id.yaml").read_text()
    assert text.count("image: registry.example.org/team/train:abc123\n") == len(STEPS) - 2
    assert text.count("image: registry.example.org/team/embed:abc123\n") == 2
    assert re.sub(r"registry.example.org/team/(\w+):abc123", rf"modalrec/\1:{__version__}", text) == golden


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_are_resources_too(name: str, tmp_path: Path) -> None:
    """For clusters that are described in a repository; Kubeflow's definitions would refuse nothing of them."""
    path = compile_resources(name, tmp_path, "team")
    pipeline, version = read_documents(path.read_text())
    assert {pipeline["apiVersion"], version["apiVersion"]} == {"pipelines.kubeflow.org/v2beta1"}
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    title = name.replace("_", "-")
    assert pipeline["metadata"] == {"name": title, "namespace": "team"}
    assert version["metadata"]["namespace"] == "team"
    assert re.fullmatch(rf"{title}-[0-9a-f]{{12}}", version["metadata"]["name"])
    assert [*problems("Pipeline", pipeline["spec"]), *problems("PipelineVersion", version["spec"])] == []
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
    documents = [version["spec"]["pipelineSpec"], version["spec"]["platformSpec"]]
    assert documents == read_documents((COMPILED / f"{name}.yaml").read_text())


def test_what_kubeflows_definitions_refuse_is_found() -> None:
    version = {"pipelineName": "session", "versionName": "Session 1", "piplineSpec": {}}
    found = "\n".join(problems("PipelineVersion", version))
    assert all(
        part in found for part in ("'piplineSpec' was unexpected", "'pipelineSpec' is a required", "'Session 1'")
    )


def test_the_steps_of_the_largest_recipe(golden: list[dict[str, Any]]) -> None:
    assert sorted(golden[0]["deploymentSpec"]["executors"]) == sorted(STEPS)


@pytest.mark.parametrize("name", recipes.names())
def test_gpu_stages_ask_for_gpus_and_others_do_not(name: str) -> None:
    """And each step has a limit of memory and of time, the store's keys, labels, and a user."""
    spec, platforms = read_documents((COMPILED / f"{name}.yaml").read_text())
    executors = spec["deploymentSpec"]["executors"]
    platform = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    on_gpu = {label for label, spec in executors.items() if "accelerator" in spec["container"]["resources"]}
    assert on_gpu == {label for label in executors if label.startswith(GPU_STEPS)}
    assert on_gpu
    for label, spec in executors.items():
        resources = spec["container"]["resources"]
        assert resources["resourceMemoryLimit"]
        assert platform[label]["secretAsEnv"]
        assert platform[label]["configMapAsEnv"]
        assert int(platform[label]["activeDeadlineSeconds"]) > 0
        stage = re.sub(r"^exec-|-\d+$", "", label)
        labels = {"modalrec.io/recipe": name.replace("_", "-"), "modalrec.io/stage": stage}
        assert platform[label]["podMetadata"]["labels"] == labels
        security = platform[label]["securityContext"]
        assert security == {"runAsUser": "1000", "runAsGroup": "1000", "runAsNonRoot": True}
        if label in on_gpu:
            assert "pipelinechannel--accelerator'" in resources["accelerator"]["resourceType"]
            assert "pipelinechannel--accelerator_count'" in resources["accelerator"]["resourceCount"]
            assert platform[label]["nodeSelector"]["nodeSelectorJson"]
            assert platform[label]["tolerations"][0]["tolerationJson"]
            assert platform[label]["emptyDirMounts"][0]["mountPath"].endswith("/shm")
            assert platform[label]["emptyDirMounts"][0]["medium"] == "Memory"


def test_texts_may_be_sent_where_the_namespace_has_a_key(golden: list[dict[str, Any]]) -> None:
    platform = golden[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    with_key = {
        label: secret["optional"]
        for label, spec in platform.items()
        for secret in spec["secretAsEnv"]
        if {"secretKey": "apikey", "envVar": "OPENAI_API_KEY"} in secret["keyToEnv"]
    }
    assert with_key == {"exec-embed-text": True}


@pytest.mark.parametrize("recipe", recipes.names())
def test_every_step_is_tracked_where_the_namespace_says_where(recipe: str) -> None:
    """By reference: no address and no key is in a recipe, and without them a step runs all the same."""
    document = read_documents((COMPILED / f"{recipe}.yaml").read_text())[1]
    for label, spec in document["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
        (told,) = [one for one in spec["configMapAsEnv"] if one["configMapName"] == TRACKING]
        (keys,) = [one for one in spec["secretAsEnv"] if one["secretName"] == TRACKING]
        assert {one["envVar"] for one in told["keyToEnv"]} == {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"}, label
        assert {one["envVar"] for one in keys["keyToEnv"]} == set(TRACKING_KEYS.values())
        assert told["optional"] is keys["optional"] is True


@pytest.mark.parametrize("name", recipes.names())
def test_every_task_is_tried_again(name: str) -> None:
    spec = read_documents((COMPILED / f"{name}.yaml").read_text())[0]
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    tasks = {title: task for dag in dags for title, task in dag["tasks"].items() if not title.startswith(GROUPS)}
    assert len(tasks) >= len(spec["deploymentSpec"]["executors"])
    for task in tasks.values():
        assert task["retryPolicy"]["maxRetryCount"] == 2
        assert task["retryPolicy"]["backoffDuration"] == "30s"


def test_a_summary_is_written_whatever_happens(golden: list[dict[str, Any]]) -> None:
    """It waits for the steps and not for their success, and never comes from the cache."""
    tasks = golden[0]["root"]["dag"]["tasks"]
    (steps,) = set(tasks) - {"summarize"}
    closing = tasks["summarize"]
    assert closing["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert closing["dependentTasks"] == [steps]
    assert closing["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": steps}}
    assert "enableCache" not in closing.get("cachingOptions", {})
    dags = [c["dag"] for c in golden[0]["components"].values() if "dag" in c]
    others = {name: task for dag in dags for name, task in dag["tasks"].items() if "taskInfo" in task}
    cached = {name for name, task in others.items() if task.get("cachingOptions") == {"enableCache": True}}
    assert {name for name in others if not name.startswith(GROUPS)} == cached


@pytest.mark.parametrize("name", recipes.names())
def test_embedding_fans_out_over_parts_and_joins(name: str) -> None:
    components = read_documents((COMPILED / f"{name}.yaml").read_text())[0]["components"]
    dags = [component["dag"]["tasks"] for component in components.values() if "dag" in component]
    every = {title: task for dag in dags for title, task in dag.items() if title.startswith("for-loop")}
    loops = {title: task for title, task in every.items() if "_parts" in str(task["parameterIterator"])}
    bodies = {label: components[loop["componentRef"]["name"]]["dag"]["tasks"] for label, loop in loops.items()}
    assert sorted(stage for body in bodies.values() for stage in body) == ["embed-image", "embed-text"]
    for label, loop in loops.items():
        (stage,) = bodies[label]
        parts = f"pipelinechannel--configure-{stage.removeprefix('embed-')}_parts"
        assert loop["parameterIterator"]["items"] == {"inputParameter": parts}
        assert bodies[label][stage]["inputs"]["parameters"]["part"] == {"componentInputParameter": f"{parts}-loop-item"}
    joins = {title: task for dag in dags for title, task in dag.items() if title.startswith("join")}
    sources = [task["inputs"]["artifacts"]["parts"]["taskOutputArtifact"] for task in joins.values()]
    assert {source["producerTask"] for source in sources} == set(loops)
    users = [task for dag in dags for title, task in dag.items() if title in ("fuse", "quantize", "pretrain")]
    given = [task["inputs"]["artifacts"] for task in users]
    for source in [of[edge] for of in given for edge in ("text_embeddings", "image_embeddings") if edge in of]:
        inner = source.get("componentInputArtifact", "")
        assert inner.startswith("pipelinechannel--join") or source["taskOutputArtifact"]["producerTask"] in joins


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_ends_in_a_summary(name: str) -> None:
    """Where this fails, put `@with_summary` between `@dsl.pipeline` and the function."""
    tasks = read_documents((COMPILED / f"{name}.yaml").read_text())[0]["root"]["dag"]["tasks"]
    assert set(tasks) == {"summarize", "exit-handler-1"}


def test_every_parameter_and_artifact_is_described(golden: list[dict[str, Any]]) -> None:
    spec = golden[0]
    assert spec["pipelineInfo"]["description"]
    owners = [spec["root"], *(c for c in spec["components"].values() if "executorLabel" in c)]
    for owner in owners:
        for side in ("inputDefinitions", "outputDefinitions"):
            for group in owner.get(side, {}).values():
                assert [name for name, entry in group.items() if not entry.get("description")] == []


def _set(path: str, value: Any) -> Callable[[list[dict[str, Any]]], None]:
    """A fault: puts a value at a path whose steps are separated by slashes; the first is the document's number."""

    def plant(documents: list[dict[str, Any]]) -> None:
        number, *steps, last = path.split("/")
        place: Any = documents[int(number)]
        for step in steps:
            place = place[step]
        place[last] = value

    return plant


TASK = "0/components/comp-exit-handler-1/dag/tasks/quantize"
LOOP_ITEM = "pipelinechannel--configure-text_parts-loop-item"
EXECUTORS = "1/platforms/kubernetes/deploymentSpec/executors"
FAULTS = {
    "unknown field": (_set(f"{TASK}/bogus", 1), "bogus"),
    "misspelt field": (_set("0/deploymentSpec/executors/exec-fuse/container/imgae", "x"), "imgae"),
    "misspelt platform field": (_set(f"{EXECUTORS}/exec-fuse/tolerationz", []), "tolerationz"),
    "no such component": (_set(f"{TASK}/componentRef/name", "comp-x"), "comp-x"),
    "no such executor": (_set("0/components/comp-fuse/executorLabel", "exec-x"), "exec-x"),
    "platform of no executor": (_set(f"{EXECUTORS}/exec-x", {}), "exec-x"),
    "no such upstream task": (_set(f"{TASK}/dependentTasks", ["x"]), "depends on 'x'"),
    "no such output": (
        _set(f"{TASK}/inputs/artifacts/embeddings/taskOutputArtifact/outputArtifactKey", "codes"),
        "'codes' of 'fuse'",
    ),
    "no such parameter": (_set(f"{TASK}/inputs/parameters/seed", {"componentInputParameter": "sead"}), "'sead'"),
    "another type": (
        _set(f"0/components/comp-for-loop-2/inputDefinitions/parameters/{LOOP_ITEM}/parameterType", "STRING"),
        "part: is given a STRING, and a NUMBER_INTEGER is wanted",
    ),
    "another type of an output": (
        _set("0/components/comp-configure/outputDefinitions/parameters/text_parts/parameterType", "STRUCT"),
        "pipelinechannel--configure-text_parts: is given a STRUCT, and a LIST is wanted",
    ),
    "no such platform parameter": (
        _set(f"{EXECUTORS}/exec-quantize/nodeSelector/nodeSelectorJson/componentInputParameter", "nodes"),
        "'nodes'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_validator_finds_planted_faults(golden: list[dict[str, Any]], fault: str) -> None:
    plant, expected = FAULTS[fault]
    documents = copy.deepcopy(golden)
    plant(documents)
    with pytest.raises(ConfigError, match=expected) as caught:
        validate(documents, "faulty.yaml")
    assert "faulty.yaml" in str(caught.value)


def test_gpu_parameters_reach_steps_inside_a_branch() -> None:
    """Kubeflow's compiler loses them there unless `on_gpu` registers them."""

    def branched(register: bool) -> Any:
        @dsl.pipeline(name="branched")
        def pipeline(resource: str = "nvidia.com/gpu", count: int = 1, nodes: dict = {}, taints: list = []) -> None:  # noqa: B006
            made = make(journal="journal", settings={})
            with dsl.If(made.outputs["count"] == 2):
                task = make(journal="journal", settings={})
                if register:
                    on_gpu(task, Accelerator(resource, count, nodes, taints, "8Gi"))
                else:
                    task.set_accelerator_type(resource).set_accelerator_limit(count)

        return pipeline

    compiled_text("branched", branched(register=True))
    with pytest.raises(ConfigError, match="pipelinechannel--resource"):
        compiled_text("branched", branched(register=False))


def test_a_wrong_edge_is_refused() -> None:
    with pytest.raises(Exception, match=r"system\.ModalrecDataset"):

        @dsl.pipeline
        def wrong() -> None:
            made = make(journal="journal", settings={})
            judge(journal="journal", count=2, codes=made.outputs["dataset"])


def test_unknown_recipe_and_parameters() -> None:
    with pytest.raises(ConfigError, match="did you mean semantic_id"):
        recipes.load("semantic_ids")
    pipeline = recipes.load("semantic_id").pipeline
    with pytest.raises(ConfigError, match=r"sead: unknown parameter, did you mean seed.*\nsource: missing"):
        recipes.check_arguments(pipeline, {"sead": 1})
