"""A small Experiment whose trials are a few lines of Python, and ways to change it."""

import copy
from collections.abc import Sequence
from typing import Any

from modalrec.tuning.build import Field, build_experiment, list_field, number_field
from modalrec.tuning.experiment import Experiment, read_experiment

Document = dict[str, Any]

FIELDS = (
    number_field("x", "double", 0, 1, 0.05),
    number_field("n", "int", 1, 8),
    list_field("word", ["a", "b"]),
)
BOWL = "print(f'score={1 - (x - 0.3) ** 2 - (n - 3) ** 2 / 100 + (word == \"b\") / 100:.6f}')"
"""Best at x=.3, n=3, word=b."""


def document(code: str = BOWL, fields: Sequence[Field] = FIELDS, **settings: Any) -> Document:
    """An Experiment that maximises `score`; `code` knows the parameters as variables."""
    made = build_experiment(
        "small",
        "finetune",
        fields,
        metric="score",
        edges={},
        output="model",
        **{"trials": 6, "parallel": 1, **settings},
    )
    container(made)["command"] = ["python", "-c"]
    given = "; ".join(f"{each.path} = {_quoted(each)}" for each in fields)
    container(made)["args"] = [f"import os, sys, time; {given}\n{code}"]
    return made


def experiment(code: str = BOWL, fields: Sequence[Field] = FIELDS, **settings: Any) -> Experiment:
    return read_experiment(document(code, fields, **settings), "small.yaml")


def container(made: Document) -> Document:
    found: Document = made["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    return found


def training(**settings: Any) -> Document:
    """An Experiment that trains GRU4Rec."""
    fields = [
        Field("recommender.layers", "int", {"min": "16", "max": "32", "step": "16"}, "[{}]"),
        number_field("training.learning_rate", "double", 0.05, 0.1, 0.05),
    ]
    fixed = ["recommender.name=gru4rec", "recommender.n_sample=16", "training.epochs=2", "training.batch_size=8"]
    return build_experiment(
        "training",
        "finetune",
        fields,
        metric="valid_mrr_20",
        others=("best_epoch",),
        preset="session",
        settings=fixed,
        edges={"dataset": "s3://bucket/dataset"},
        output="model",
        **{"trials": 2, "parallel": 1, **settings},
    )


def changed(made: Document, *path: str | int, to: Any) -> Document:
    """A copy with another value at a path; `None` deletes."""
    made = copy.deepcopy(made)
    place: Any = made
    for step in path[:-1]:
        place = place[step]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return made


def _quoted(field: Field) -> str:
    reference = f"${{trialParameters.{field.path}}}"
    return f"'{reference}'" if field.kind == "categorical" else reference
