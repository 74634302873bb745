"""Components: typed edges that the compiler checks, and descriptions that Kubeflow shows."""

import importlib
import pkgutil
from typing import Any

import pytest
from kfp import dsl
from kfp.dsl.types import artifact_types

import components
from components.artifacts import ARTIFACTS, ModalrecDataset
from components.embed_text.component import embed_text
from components.execute import CONFIGS, PARTS, RECOMMENDERS
from components.images import image
from components.quantize.component import quantize
from modalrec import __version__
from modalrec.artifacts.manifest import SCHEMA_VERSIONS
from modalrec.stages import EDGES, STAGES

FOLDERS = sorted(info.name for info in pkgutil.iter_modules(components.__path__) if info.ispkg)


def component(name: str) -> Any:
    return getattr(importlib.import_module(f"components.{name}.component"), name)


def test_every_stage_is_a_component() -> None:
    assert set(FOLDERS) == {"compare", "configure", "join", "summarize", "tune", *STAGES}


@pytest.mark.parametrize("name", sorted(STAGES))
def test_edges_have_the_names_and_kinds_of_the_stage(name: str) -> None:
    spec, stage = component(name).component_spec, STAGES[name]
    artifacts = {edge: given for edge, given in spec.inputs.items() if "Modalrec" in given.type}
    required = {edge for edge, given in spec.inputs.items() if not given.optional}
    given = {"config", "seed", *(["part"] if name in PARTS.values() else [])}
    assert set(artifacts) | given | ({"source"} & set(stage.inputs)) == set(spec.inputs)
    assert required - given == set(stage.inputs)
    assert set(artifacts) - required == set(stage.optional)
    assert set(spec.outputs) - {"metrics", "report", "summary", "roc"} == set(stage.outputs)
    for edge, given in {**artifacts, **{edge: spec.outputs[edge] for edge in stage.outputs}}.items():
        assert given.type.startswith(ARTIFACTS[EDGES[edge]].schema_title)


@pytest.mark.parametrize("name", FOLDERS)
def test_everything_is_described(name: str) -> None:
    spec = component(name).component_spec
    assert spec.description
    for key, given in {**spec.inputs, **spec.outputs}.items():
        assert given.description, f"{name}: {key}"


def test_configure_returns_what_it_declares() -> None:
    outputs = component("configure").component_spec.outputs
    assert tuple(outputs) == (*CONFIGS, *PARTS, RECOMMENDERS)
    assert set(STAGES) <= set(CONFIGS)


def test_artifact_classes_are_registered_for_local_runs() -> None:
    assert set(ARTIFACTS) == set(SCHEMA_VERSIONS)
    for cls in ARTIFACTS.values():
        assert artifact_types._SCHEMA_TITLE_TO_TYPE[cls.schema_title] is cls


def test_the_compiler_refuses_a_wrong_edge() -> None:
    with pytest.raises(Exception, match=r"system\.ModalrecDataset"):

        @dsl.pipeline
        def wrong() -> None:
            dataset = dsl.importer(artifact_uri="s3://bucket/dataset", artifact_class=ModalrecDataset).output
            texts = embed_text(dataset=dataset, config="{}", seed=0, part=0)
            quantize(embeddings=dataset, config="{}", seed=0).after(texts)


def test_image_names_follow_registry_and_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODALREC_REGISTRY", raising=False)
    monkeypatch.delenv("MODALREC_TAG", raising=False)
    assert image("train") == f"modalrec/train:{__version__}"
    monkeypatch.setenv("MODALREC_REGISTRY", "registry.example.org/team/")
    monkeypatch.setenv("MODALREC_TAG", "abc123")
    assert image("train") == "registry.example.org/team/train:abc123"
