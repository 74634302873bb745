"""The Experiments of the project: each is read, checked, and asks for what this release has."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.images import image
from modalrec.plugins import discover
from modalrec.stages import EDGES, load_stage
from modalrec.tuning.build import STORE
from modalrec.tuning.experiment import Experiment, load_experiment
from modalrec.tuning.fields import corner
from modalrec.tuning.katib import EXPERIMENTS, GROUP, TRIALS
from pipelines import placement
from tests.manifests.policies import POLICIES
from tests.manifests.rendering import with_components

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "manifests" / "katib").glob("*.yaml"))
MODELS = {"rqvae", "sasrec", "encoder_decoder", "encoder_retrieve", "mp4sr", "din", "dlrm"}
SESSIONS = {
    f"gru4rec-{loss}-{mode}" for loss in ("cross-entropy", "bpr-max") for mode in ("constrained", "separate", "none")
}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return load_experiment(request.param)


def trial(experiment: Experiment) -> dict[str, Any]:
    (found,) = experiment.template.spec["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_there_is_one_for_every_model() -> None:
    assert {path.stem for path in FILES} == MODELS | SESSIONS


def test_a_name_is_that_of_its_file_and_of_a_model(experiment: Experiment) -> None:
    command = experiment.template.command(corner(experiment, 0), "trial")
    settings = command.settings()
    model = settings["recommender" if command.stage == "finetune" else "quantizer"]["name"]
    assert experiment.name.replace("-", "_").startswith(model)
    assert (ROOT / "manifests" / "katib" / f"{experiment.name}.yaml").exists() or model in MODELS
    assert model in {**discover("recommenders"), **discover("quantizers")}


def test_a_trial_runs_this_release_with_the_store_of_the_pipelines(experiment: Experiment) -> None:
    container = trial(experiment)
    assert container["image"] == image("train")
    given = {each["name"]: each["valueFrom"] for each in container["env"]}
    assert given == {name: {kind: {"name": of, "key": key}} for name, (kind, of, key) in STORE.items()}
    names = {of for _, of, _ in STORE.values()}
    assert names == {placement.STORE_SECRET, placement.STORE_CONFIG}
    command = experiment.template.unfilled()
    options = dict(command.options())
    kept_in_pod = options.pop(command.outputs[0])
    assert kept_in_pod.startswith("/tmp/")  # noqa: S108
    assert all(place.startswith("s3://") for name, place in options.items() if name in {*EDGES, "checkpoints"})
    assert "checkpoints" in options
    assert placement.GPU_TAINT in experiment.template.spec["spec"]["template"]["spec"]["tolerations"]


def test_a_trial_keeps_to_every_policy_of_the_cluster(experiment: Experiment) -> None:
    thing = {**experiment.document, "metadata": {**experiment.document["metadata"], "namespace": "modalrec"}}
    own = set(POLICIES) - {"default_deny", "restricted", "references"}  # those of a namespace as a whole
    assert [problem for name in own for problem in POLICIES[name]([thing])] == []


def test_the_step_that_searches_has_the_rights_it_needs_and_no_more(tmp_path: Path) -> None:
    objects = with_components(["seaweedfs", "tuning"], tmp_path)
    assert [problem for check in POLICIES.values() for problem in check(objects)] == []
    (role,) = [each for each in objects if each["kind"] == "Role" and each["metadata"]["name"] == "modalrec-tuning"]
    rights = {(rule["apiGroups"][0], rule["resources"][0]): set(rule["verbs"]) for rule in role["rules"]}
    assert rights == {
        (GROUP, EXPERIMENTS): {"create", "get", "list", "watch"},
        (GROUP, TRIALS): {"get", "list", "watch"},
    }


def test_every_model_of_the_search_is_one_that_the_stage_takes(experiment: Experiment) -> None:
    """Least and greatest values are checked on reading; here every value of every list, one at a time."""
    from modalrec.config import resolve

    least = corner(experiment, 0)
    for parameter in experiment.parameters:
        for text in parameter.corners():
            command = experiment.template.command({**least, parameter.name: text}, "trial")
            assert command.stage is not None
            resolve(load_stage(command.stage)[1], command.settings())


def test_a_trial_comes_through_katibs_shell(experiment: Experiment) -> None:
    """Katib joins the words with spaces and gives them to `sh -c`, behind which its collector listens."""
    words = experiment.template.command(corner(experiment, 0), "trial").words
    line = " ".join(("printf", "%s\\\\n", *words))
    said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == list(words)


def test_mp4sr_has_the_published_grid_without_its_learning_rate_of_zero() -> None:
    grid = {each.name: each.choices for each in load_experiment(ROOT / "manifests" / "katib" / "mp4sr.yaml").parameters}
    assert grid == {
        "training.batch_size": ("256", "512", "1024"),
        "training.learning_rate": ("0.0001", "0.001"),
        "training.weight_decay": ("0", "0.0001", "0.001"),
    }
    assert "Left out is its learning rate 0" in (ROOT / "manifests" / "katib" / "mp4sr.yaml").read_text()


def test_din_has_the_grid_of_ctr_tuners() -> None:
    read = load_experiment(ROOT / "manifests" / "katib" / "din.yaml")
    assert {each.name: each.choices for each in read.parameters} == {
        "recommender.embedding_decay": ("1e-06", "1e-07"),
        "recommender.dropout": ("0.1", "0.2"),
        "training.learning_rate": ("0.001", "0.0001"),
    }
    assert read.max_trials == 8
    assert read.template.command(corner(read, 0), "trial").settings()["training"]["batch_size"] == 8192
