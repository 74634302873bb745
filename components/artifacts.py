"""The typed artifacts: one class per kind, so that the compiler refuses a wrong edge.

Kubeflow accepts only titles in the `system.` and `google.` namespaces. An annotation must use a class's real name:
the class is imported by that name where the component runs.
"""

from typing import Any

from kfp import dsl
from kfp.dsl.types import artifact_types


class ModalrecDataset(dsl.Artifact):
    """Items, users, interactions with their splits, and pictures."""

    schema_title = "system.ModalrecDataset"
    schema_version = "0.1.0"


class ModalrecEmbeddings(dsl.Artifact):
    """One vector per item, or a list of vectors."""

    schema_title = "system.ModalrecEmbeddings"
    schema_version = "0.1.0"


class ModalrecCodes(dsl.Artifact):
    """One semantic ID or several named groups of codes per item, and the quantizers that made them."""

    schema_title = "system.ModalrecCodes"
    schema_version = "0.1.0"


class ModalrecModel(dsl.Artifact):
    """A recommender with all it needs to serve."""

    schema_title = "system.ModalrecModel"
    schema_version = "0.1.0"


class ModalrecEvaluation(dsl.Artifact):
    """Metrics, ranks per user and top-k lists (or predictions of labelled rows), and the report."""

    schema_title = "system.ModalrecEvaluation"
    schema_version = "0.1.0"


class ModalrecComparison(dsl.Artifact):
    """Several evaluations side by side: metrics and the report."""

    schema_title = "system.ModalrecComparison"
    schema_version = "0.1.0"


ARTIFACTS: dict[str, Any] = {
    "dataset": ModalrecDataset,
    "embeddings": ModalrecEmbeddings,
    "codes": ModalrecCodes,
    "model": ModalrecModel,
    "evaluation": ModalrecEvaluation,
    "comparison": ModalrecComparison,
}
"""From the kind in a folder's manifest to the class."""

# Without this kfp.local hands a consumer a plain Artifact.
artifact_types._SCHEMA_TITLE_TO_TYPE.update({cls.schema_title: cls for cls in ARTIFACTS.values()})
