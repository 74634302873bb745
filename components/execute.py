"""What every component does: call the stage of that name with the artifacts' folders, and tell Kubeflow the results."""

import json
import math
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kfp import dsl

from modalrec.artifacts import read_manifest
from modalrec.artifacts.manifest import REPORT, SUMMARY
from modalrec.artifacts.store import localized
from modalrec.config import resolve
from modalrec.errors import told
from modalrec.run import Run
from modalrec.stages import EDGES, load_stage
from modalrec.stages.processes import run_stage
from modalrec.stages.tracking import recorded

NULL = "null"
"""Stands for None among the settings, which kfp.local cannot pass."""

CONFIGS = (
    "ingest",
    "embed_text",
    "embed_image",
    "fuse",
    "quantize",
    "pretrain",
    "finetune",
    "evaluate",
    "tune",
    "compare",
    "scratch",
    "pretrain_shuffled",
    "finetune_shuffled",
    "pretrain_temporal",
    "finetune_temporal",
    "finetune_without_popularity",
    "finetune_without_codes",
    "finetune_without_content",
)
"""Outputs of `configure`, in the order of its signature: the stages, the search, then the control runs."""

PARTS = {"text_parts": "embed_text", "image_parts": "embed_image"}
"""Further outputs, and the stages that run in so many parts."""
RECOMMENDERS = "recommenders"
"""The last output: of a comparison the configurations of each recommender's own stages."""


def execute(
    stage: str,
    config: str,
    seed: int,
    *,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    metrics: Any,
    report: Any = None,
    summary: Any = None,
    roc: Any = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Runs a stage inside a component.

    Args:
        stage: The stage's name.
        config: Its configuration as JSON.
        seed: The seed of all its random draws.
        inputs: From edge name to artifact; None for an optional edge that is not connected. `source` is a folder's
            path or an `s3://` URI.
        outputs: From edge name to the artifact to write.
        metrics: The Metrics artifact; its file is always written.
        report: The HTML artifact that gets the evaluation's report.
        summary: The Markdown artifact that gets it in short.
        roc: The ClassificationMetrics artifact that gets the curve of a model of clicks.
        settings: Over the configuration: what differs between steps that share one.
    """
    with user_errors(), ExitStack() as copies:
        _, config_class = load_stage(stage)
        resolved = resolve(config_class, json.loads(config), settings or {}, where=stage)
        run = Run(stage, seed=seed, checkpoints=os.environ.get("MODALREC_CHECKPOINTS"))
        given = {edge: _folder(value, copies) for edge, value in inputs.items()}
        made = {edge: Path(artifact.path) for edge, artifact in outputs.items()}
        numbers = run_stage(stage, {**given, **made}, resolved, run)
        for edge, artifact in outputs.items():
            manifest = read_manifest(made[edge], EDGES[edge], verify=False)
            artifact.metadata.update(kind=manifest.kind, digest=manifest.digest)
        log_metrics(metrics, numbers)
        if report is not None:
            _show(made["evaluation"], report, summary)
        if roc is not None:
            log_roc(roc, made["evaluation"] / "roc.json")


def execute_join(parts: Sequence[Any], embeddings: Any, metrics: Any) -> None:
    """Joins the parts of an embedding inside a component.

    Args:
        parts: The artifacts of all parts.
        embeddings: The artifact to write.
        metrics: The Metrics artifact; its file is always written.
    """
    from modalrec.stages.join import join

    with user_errors():
        folders, whole, run = [Path(part.path) for part in parts], Path(embeddings.path), Run("join")
        numbers = recorded(lambda: join(folders, whole, run=run), "embeddings", whole, run)
        manifest = read_manifest(whole, "embeddings", verify=False)
        embeddings.metadata.update(kind=manifest.kind, digest=manifest.digest)
        log_metrics(metrics, numbers)


def execute_compare(
    evaluations: Sequence[Any],
    dataset: Any,
    config: str,
    seed: int,
    comparison: Any,
    metrics: Any,
    report: Any,
    summary: Any,
) -> None:
    """Puts evaluations side by side inside a component.

    Args:
        evaluations: The artifacts of all evaluations, in the order of the names.
        dataset: The dataset that they were made on.
        config: Configuration of the stage as JSON.
        seed: The seed of all its random draws.
        comparison: The artifact to write.
        metrics: The Metrics artifact; its file is always written.
        report: The HTML artifact that gets the report.
        summary: The Markdown artifact that gets it in short.
    """
    from modalrec.stages.compare import Config, compare

    with user_errors():
        resolved = resolve(Config, json.loads(config), where="compare")
        folders, made = [Path(one.path) for one in evaluations], Path(comparison.path)
        data, run = Path(dataset.path), Run("compare", seed=seed)
        numbers = recorded(lambda: compare(folders, data, made, config=resolved, run=run), "comparison", made, run)
        manifest = read_manifest(made, "comparison", verify=False)
        comparison.metadata.update(kind=manifest.kind, digest=manifest.digest)
        log_metrics(metrics, numbers)
        _show(made, report, summary)


def configure_stages(preset: str, settings: Mapping[str, Any], controls: bool, stages: Sequence[str]) -> Any:
    """Resolves and checks the configurations of all stages; the first step of a pipeline.

    Args:
        preset: The preset's name.
        settings: From stage to settings, over the preset's.
        controls: Whether the control runs are part of the pipeline.
        stages: The stages of the pipeline; all where none are given.

    Returns:
        A named tuple of JSON texts, one for each of `CONFIGS`, empty for stages that the pipeline does not have; then
        for each of `PARTS` the numbers of a stage's parts, and the `RECOMMENDERS`.
    """
    from components.tune.search import choose
    from modalrec.stages.configure import COMPARE, configure

    with user_errors():
        configs = configure(preset, _with_null(settings), controls, stages)
        if "tune" in configs:
            choose(configs)
    texts = {name: json.dumps(configs[name], sort_keys=True) if name in configs else "" for name in CONFIGS}
    parts = {name: list(range(configs.get(stage, {}).get("parts", 1))) for name, stage in PARTS.items()}
    lines = configs.get(COMPARE, {}).get("recommenders", {}).values()
    own = [{stage: json.dumps(config, sort_keys=True) for stage, config in line.items()} for line in lines]
    return namedtuple("Configs", [*CONFIGS, *PARTS, RECOMMENDERS])(**texts, **parts, **{RECOMMENDERS: own})


def log_metrics(metrics: Any, numbers: Mapping[str, float]) -> None:
    """Shows the numbers in the Kubeflow UI and writes them to the artifact's file, without which no cache ever hits."""
    finite = {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
    for name, value in finite.items():
        metrics.log_metric(name, value)
    Path(metrics.path).write_text(json.dumps(finite, indent=2, sort_keys=True) + "\n")


def log_roc(roc: Any, curve: Path) -> None:
    """Shows the curve in the Kubeflow UI where there is one; the artifact's file is written in any case."""
    text = curve.read_text() if curve.is_file() else "{}"
    if found := json.loads(text):
        roc.log_roc_curve(found["false_positives"], found["true_positives"], found["thresholds"])
    Path(roc.path).write_text(text)


@contextmanager
def user_errors() -> Iterator[None]:
    """Ends the process with an error's message and exit code, without a traceback that would bury the message."""
    try:
        yield
    except Exception as error:
        known = told(error)
        if known is None:
            raise
        for line in str(known).splitlines():
            print(f"error: {line}", file=sys.stderr, flush=True)
        sys.exit(known.exit_code)


def _show(folder: Path, report: Any, summary: Any) -> None:
    shutil.copyfile(folder / REPORT, report.path)
    shutil.copyfile(folder / SUMMARY, summary.path)


def _folder(value: Any, copies: ExitStack) -> Path | None:
    if value is None:
        return None
    return Path(value.path) if isinstance(value, dsl.Artifact) else copies.enter_context(localized(str(value)))


def _with_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_null(inner) for key, inner in value.items()}
    return None if value == NULL else value
