"""Compiling recipes to files that are the same, byte for byte, on every machine."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from modalrec.artifacts.files import write_bytes
from pipelines.runner import recipes
from pipelines.runner.validate import read_documents, validate

COMPILED = Path(__file__).parents[1] / "compiled"


def compile_recipe(name: str, folder: Path = COMPILED) -> Path:
    """Compiles and validates a recipe.

    Args:
        name: The recipe.
        folder: Where `<name>.yaml` goes.

    Returns:
        The file.

    Raises:
        ConfigError: The recipe is unknown or its compiled form is not valid.
    """
    path = folder / f"{name}.yaml"
    text = compiled_text(name, recipes.load(name).pipeline)
    write_bytes(path, text.encode())
    return path


def compile_resources(name: str, folder: Path, namespace: str) -> Path:
    """Writes a recipe as the resources Pipeline and PipelineVersion, for clusters that are described in a repository.

    Kubeflow Pipelines takes them where its API server keeps pipelines in Kubernetes (`--pipelinesStoreKubernetes`). A
    version is never changed: it is named after its content, as `submit` names it.

    Args:
        name: The recipe.
        folder: Where `<name>.kubernetes.yaml` goes.
        namespace: Of both resources.

    Returns:
        The file.

    Raises:
        ConfigError: The recipe is unknown or its compiled form is not valid.
    """
    pipeline = recipes.load(name).pipeline
    version = version_name(name, compiled_text(name, pipeline))
    options = KubernetesManifestOptions(
        pipeline_name=name.replace("_", "-"),
        pipeline_display_name=name,
        pipeline_version_name=version.replace("_", "-"),
        pipeline_version_display_name=version,
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    path = folder / f"{name}.kubernetes.yaml"
    with tempfile.TemporaryDirectory(prefix="modalrec-") as temporary:
        made = Path(temporary) / "resources.yaml"
        compiler.Compiler().compile(
            pipeline, str(made), kubernetes_manifest_options=options, kubernetes_manifest_format=True
        )
        write_bytes(path, made.read_bytes())
    return path


def version_name(name: str, text: str) -> str:
    """The name of the version of a recipe with this compiled form."""
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def compiled_text(name: str, pipeline: Any) -> str:
    """The compiled form of a pipeline, validated.

    Kubeflow's compiler writes a heading whose order changes from run to run, so it gets another one.
    """
    with tempfile.TemporaryDirectory(prefix="modalrec-") as temporary:
        path = Path(temporary) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    body = "".join(lines[next(n for n, line in enumerate(lines) if not line.startswith("#")) :])
    text = _heading(name, validate(read_documents(body), f"{name}.yaml")) + body
    validate(read_documents(text), f"{name}.yaml")
    return text


def _heading(name: str, spec: Any) -> str:
    lines = [f"# {spec.pipeline_info.display_name or name}: {spec.pipeline_info.description}"]
    lines.append(f"# Written by `python -m pipelines compile {name}`; edit the recipe instead. Parameters:")
    for key, parameter in sorted(spec.root.input_definitions.parameters.items()):
        default = json.dumps(json_format.MessageToDict(parameter.default_value), sort_keys=True)
        told = " ".join(parameter.description.split())
        lines.append(f"#   {key} ({default if parameter.is_optional else 'required'}): {told}")
    return "\n".join(lines) + "\n"
