"""`join`: the embeddings of all items from those of their parts."""

from typing import List  # noqa: UP035  (Kubeflow reads this annotation, and knows it by this name)

from kfp.dsl import Artifact, Input, Metrics, Output

from components.artifacts import ModalrecEmbeddings
from components.stage import stage


@stage
def join(
    parts: Input[List[Artifact]],  # noqa: UP006  (Kubeflow's compiler does not find classes of our own in a list)
    embeddings: Output[ModalrecEmbeddings],
    metrics: Output[Metrics],
) -> None:
    """Join embeddings that were made in parts, each on a node of its own.

    Args:
        parts: The embeddings of each part of the items.
        embeddings: Those of all items, in the dataset's order.
        metrics: How many items have a vector.
    """
    from components.execute import execute_join

    execute_join(parts, embeddings, metrics)
