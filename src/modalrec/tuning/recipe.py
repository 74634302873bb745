"""A search inside a recipe: the space of an Experiment, around the settings that the recipe gives its training."""

import copy
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from modalrec.artifacts.files import sha256_json
from modalrec.config import flatten, parse_assignments
from modalrec.errors import ConfigError
from modalrec.tuning.experiment import Experiment, load_experiment, read_experiment
from modalrec.tuning.fields import EPOCH, corner
from modalrec.tuning.template import PLACEHOLDER
from modalrec.tuning.webhook import LONGEST_NAME

STAGE = "finetune"


@dataclass(frozen=True)
class Pod:
    """Where the trials of a cluster run.

    Attributes:
        image: Their image.
        accelerator: Resource name of the GPUs, and `count` how many.
        count: GPUs of a trial.
        node_selector: Labels of the nodes.
        tolerations: Taints of the nodes to tolerate.
        memory: Main memory of a trial.
    """

    image: str
    accelerator: str
    count: int
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: list[Mapping[str, str]] = field(default_factory=list)
    memory: str = "32Gi"


def fitting_experiment(folder: Path, config: Mapping[str, Any], name: str = "") -> Experiment:
    """The Experiment of a folder whose space is that of a recommender.

    One fits that is of this recommender and fixes none of its words, such as a loss, to another one than the recipe's.

    Args:
        folder: Of Experiments.
        config: Resolved configuration of `finetune`.
        name: Takes this one instead.

    Raises:
        ConfigError: None fits, or there is none of that name.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"
            raise ConfigError(f"tune.experiment: {name!r} is not in {folder}; {hint}")
        return load_experiment(folder / f"{name}.yaml")
    wanted = config["recommender"]
    for stem in known:
        if stem.replace("-", "_").startswith(wanted["name"]):
            experiment = load_experiment(folder / f"{stem}.yaml")
            if _fits(experiment, wanted):
                return experiment
    raise ConfigError(
        f"tune: no experiment of {folder} fits the recommender {wanted['name']} with these settings; give "
        f"tune.experiment, one of {', '.join(known) or 'none'}"
    )


def _fits(experiment: Experiment, wanted: Mapping[str, Any]) -> bool:
    command = experiment.template.command(corner(experiment, 0), "trial")
    if command.stage != STAGE:
        return False
    own = parse_assignments(value for name, value in command.options() if name == "set").get("recommender", {})
    searched = {parameter.name for parameter in experiment.parameters}
    words = {
        key: value for key, value in own.items() if isinstance(value, str) and f"recommender.{key}" not in searched
    }
    words["name"] = command.settings()["recommender"]["name"]
    return all(wanted.get(key) == value for key, value in words.items())


def around(
    experiment: Experiment,
    config: Mapping[str, Any],
    places: Mapping[str, str],
    *,
    trials: int,
    parallel: int = 0,
    pod: Pod | None = None,
) -> Experiment:
    """The Experiment with a recipe's own settings for all that it does not search.

    Of a training that starts from a pre-trained model the recommender stays as it is, and its parameters are left out.

    Args:
        experiment: Whose space, objective and algorithm are taken.
        config: Resolved configuration of `finetune`.
        places: From connected input to folder or URI, and `checkpoints`.
        trials: How many.
        parallel: How many at a time; 0 for the Experiment's.
        pod: Where the trials of a cluster run; None here.

    Returns:
        The Experiment; its name tells what it searches, so that a step that is tried again finds it.

    Raises:
        ConfigError: Nothing is left to search, or Katib or the stage would refuse the result.
    """
    document = copy.deepcopy(dict(experiment.document))
    spec = document["spec"]
    kept = [p.name for p in experiment.parameters if not ("pretrained" in places and p.name.startswith("recommender."))]
    if not kept:
        raise ConfigError(
            f"{experiment.name}: searches the recommender alone, which pretraining has fixed; take another"
        )
    spec["parameters"] = [each for each in spec["parameters"] if each["name"] in kept]
    template = spec["trialTemplate"]
    template["trialParameters"] = [each for each in template["trialParameters"] if each["reference"] in kept]
    names = {each["name"] for each in template["trialParameters"]}
    metric = f"valid_{config['monitor']}"
    spec["objective"] |= {"type": "maximize", "objectiveMetricName": metric, "additionalMetricNames": [EPOCH]}
    spec["objective"].pop("metricStrategies", None)
    spec["objective"].pop("goal", None)
    limits = {"maxTrialCount": trials, "parallelTrialCount": min(parallel or experiment.parallel, trials)}
    spec |= limits | {"maxFailedTrialCount": min(experiment.max_failed or trials, trials)}
    container = _container(template, experiment.template.container)
    searched = [word for word in container["args"] if (found := PLACEHOLDER.findall(word)) and set(found) <= names]
    container["command"] = ["modalrec", STAGE]
    container["args"] = [
        *(f"--{edge}={place}" for edge, place in places.items()),
        "--model=/tmp/model",
        *(f"--set={path}={_plain(value)}" for path, value in flatten(config).items()),
        *searched,
    ]
    if pod is not None:
        _place(template["trialSpec"]["spec"]["template"]["spec"], container, pod)
    digest = sha256_json(document)[:8]
    document["metadata"] = {"name": f"{experiment.name[: LONGEST_NAME - 9]}-{digest}"}
    return read_experiment(document, experiment.name)


def _plain(value: Any) -> str:
    """A value as YAML without spaces and quotes, which Katib would lose (`template.UNTOUCHED`)."""
    if isinstance(value, list):
        return f"[{','.join(_plain(each) for each in value)}]"
    if isinstance(value, str):
        return (value if yaml.safe_load(value) == value else json.dumps(value)) if value else "!!str"
    return json.dumps(value)


def _container(template: Mapping[str, Any], name: str) -> dict[str, Any]:
    pod = template["trialSpec"]["spec"]["template"]["spec"]
    found: dict[str, Any] = next(each for each in pod["containers"] if each["name"] == name)
    return found


def _place(spec: dict[str, Any], container: dict[str, Any], pod: Pod) -> None:
    container["image"] = pod.image
    limits = {"memory": pod.memory} | ({pod.accelerator: str(pod.count)} if pod.count else {})
    container["resources"] = {"requests": {"cpu": "4", "memory": pod.memory}, "limits": limits}
    spec["tolerations"] = [dict(each) for each in pod.tolerations]
    if pod.node_selector:
        spec["nodeSelector"] = dict(pod.node_selector)
