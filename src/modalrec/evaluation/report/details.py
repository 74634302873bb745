"""Where the numbers come from: every ancestor's configuration, all metrics, the software."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from modalrec.artifacts.manifest import Manifest, code_version
from modalrec.evaluation.report.data import data_section
from modalrec.evaluation.report.leakage import Check
from modalrec.run import Run

PACKAGES = ("torch", "numpy", "pandas", "pyarrow", "scipy", "transformers", "timm")


@dataclass(frozen=True)
class Step:
    """An artifact among the ancestors."""

    stage: str
    digest: str
    inputs: str
    config: str
    statistics: str


def origin(
    dataset: Manifest,
    checks: Sequence[Check],
    manifests: Mapping[str, Manifest],
    config: Mapping[str, Any],
    metrics: dict[str, float],
    run: Run,
) -> dict[str, Any]:
    """What `origin.html` shows: the data, what training knows of the test part, everything needed to repeat the run.

    Args:
        dataset: The dataset.
        checks: For leakage.
        manifests: All that went in, by edge or name.
        config: Of the stage, as plain values.
        metrics: All numbers by name.
        run: The stage's run.
    """
    return {
        "data": data_section(dataset),
        "checks": checks,
        "lineage": lineage(manifests),
        "config": config,
        "numbers": numbers(metrics),
        "environment": environment(run, code_version()),
    }


def lineage(manifests: Mapping[str, Manifest]) -> list[Step]:
    """All artifacts behind the evaluation, each once."""
    everything = {manifest.digest: manifest.ancestor() for manifest in manifests.values()}
    for manifest in manifests.values():
        everything = manifest.lineage | everything
    return [
        Step(
            stage=ancestor.stage,
            digest=digest[:12],
            inputs=", ".join(f"{edge} {value[:12]}" for edge, value in ancestor.inputs.items()),
            config=_json(ancestor.config),
            statistics=_json(ancestor.statistics),
        )
        for digest, ancestor in everything.items()
    ]


def numbers(metrics: dict[str, float]) -> list[tuple[str, str]]:
    """All metrics by name."""
    return [(name, f"{value:.6g}") for name, value in sorted(metrics.items())]


def environment(run: Run, version: str) -> list[tuple[str, str]]:
    """Versions, device and threads; nothing that names a person, a machine or a place."""
    versions = [(name, importlib.metadata.version(name)) for name in PACKAGES]
    return [
        ("modalrec", version),
        ("seed", str(run.seed)),
        ("device", run.torch_device()),
        ("threads", str(torch.get_num_threads())),
        ("python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
        *versions,
    ]


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
