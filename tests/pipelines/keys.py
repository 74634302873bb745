"""What Kubeflow's cache would know the steps of a compiled recipe by, worked out without a cluster.

The driver of KFP 2.17 (`backend/src/v2/cacheutils`) takes a step's image, command, parameters, the names of the
artifacts that it gets, its outputs, and its volumes. An artifact keeps its name where its step came from the cache, so
here it is named by the key of its step. Conditions are not looked at: every branch has its keys.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.execute import configure_stages

GIVEN = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
Values = Mapping[str, Any]


def keys(documents: list[dict[str, Any]], arguments: Values) -> dict[str, str]:
    """From the path of each step that is looked up in the cache to its key."""
    spec = documents[0]
    known = spec["root"]["inputDefinitions"]["parameters"]
    defaults = {name: found["defaultValue"] for name, found in known.items() if "defaultValue" in found}
    found: dict[str, str] = {}
    _dag(spec, spec["root"]["dag"], {**defaults, **arguments}, {}, "", found)
    return found


def _dag(
    spec: Any, dag: Any, parameters: Values, artifacts: Values, path: str, found: dict[str, str]
) -> dict[str, Any]:
    """Adds the keys of a graph's steps, and returns its outputs: from the name to the artifact's."""
    made: dict[tuple[str, str], Any] = {}
    for name, task in _in_order(dag["tasks"]):
        inputs = task.get("inputs", {})
        values = {key: _parameter(source, parameters, made) for key, source in inputs.get("parameters", {}).items()}
        for key, value in values.items():
            if isinstance(value, str):
                values[key] = GIVEN.sub(lambda one, values=values: str(values[one[1]]), value)
        if "parameterIterator" in task:
            loop = task["parameterIterator"]
            values[loop["itemInput"]] = ["one of", values.get(loop["items"].get("inputParameter"))]
        given = {key: _artifact(source, artifacts, made) for key, source in inputs.get("artifacts", {}).items()}
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            made |= {
                (name, key): one
                for key, one in _dag(spec, component["dag"], values, given, f"{path}{name}/", found).items()
            }
            continue
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        step = [
            container["image"],
            container["command"],
            container["args"],
            values,
            given,
            component.get("outputDefinitions"),
        ]
        key = hashlib.sha256(json.dumps(step, sort_keys=True).encode()).hexdigest()
        if task.get("cachingOptions", {}).get("enableCache"):
            found[path + name] = key
        made |= {
            (name, output): f"{key}/{output}" for output in component.get("outputDefinitions", {}).get("artifacts", {})
        }
        if component["executorLabel"] == "exec-configure":
            told = configure_stages(values["preset"], values["settings"], values["controls"], values["stages"])
            made |= {(name, output): value for output, value in told._asdict().items()}
    selectors = dag.get("outputs", {}).get("artifacts", {})
    return {
        name: [made[one["producerSubtask"], one["outputArtifactKey"]] for one in selector["artifactSelectors"]]
        for name, selector in selectors.items()
    }


def _in_order(tasks: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each task behind those that it waits for."""
    waiting = dict(tasks)
    while waiting:
        ready = [name for name, task in waiting.items() if not set(task.get("dependentTasks", [])) & set(waiting)]
        yield from ((name, waiting.pop(name)) for name in ready)


def _parameter(source: Any, parameters: Values, made: Values) -> Any:
    if "runtimeValue" in source:
        return source["runtimeValue"]["constant"]
    if "componentInputParameter" in source:
        value = parameters[source["componentInputParameter"]]
        return [value, source["parameterExpressionSelector"]] if "parameterExpressionSelector" in source else value
    if "taskOutputParameter" in source:
        wanted = source["taskOutputParameter"]
        return made.get((wanted["producerTask"], wanted["outputParameterKey"]), str(wanted))
    return str(source)


def _artifact(source: Any, artifacts: Values, made: Values) -> Any:
    if "componentInputArtifact" in source:
        return artifacts[source["componentInputArtifact"]]
    wanted = source["taskOutputArtifact"]
    return made[wanted["producerTask"], wanted["outputArtifactKey"]]
