"""`tune`: a search for the settings of `finetune`."""

from typing import NamedTuple

from kfp.dsl import HTML, Input, Metrics, Output

from components.artifacts import ModalrecCodes, ModalrecDataset, ModalrecEmbeddings, ModalrecModel
from components.stage import stage


@stage
def tune(
    dataset: Input[ModalrecDataset],
    config: str,
    search: str,
    seed: int,
    image: str,
    accelerator: str,
    accelerator_count: int,
    node_selector: dict,
    tolerations: list,
    gpu_memory: str,
    metrics: Output[Metrics],
    report: Output[HTML],
    codes: Input[ModalrecCodes] = None,
    embeddings: Input[ModalrecEmbeddings] = None,
    text_embeddings: Input[ModalrecEmbeddings] = None,
    image_embeddings: Input[ModalrecEmbeddings] = None,
    pretrained: Input[ModalrecModel] = None,
) -> NamedTuple("Tuned", [("finetune", str)]):  # type: ignore[valid-type]
    """Search the settings of finetune by the validation part: with Katib on a cluster, with Optuna on a laptop.

    Args:
        dataset: The histories.
        config: Configuration of finetune, as JSON: what the search leaves as it is.
        search: Configuration of the search, as JSON.
        seed: Seed of all random draws.
        image: Image of the trials.
        accelerator: Resource name of the trials' GPUs.
        accelerator_count: GPUs of a trial.
        node_selector: Labels of the trials' nodes.
        tolerations: Taints of the trials' nodes to tolerate.
        gpu_memory: Main memory of a trial.
        metrics: The best trial's metrics, and how many trials there were.
        report: History, importances and all trials as one HTML file.
        codes: The items' semantic IDs or code groups, for models that use them.
        embeddings: The items' vectors, for models that use them.
        text_embeddings: The vectors of the items' texts, for models that tell modalities apart.
        image_embeddings: The vectors of the items' pictures, for the same.
        pretrained: The model that every trial starts from.

    Returns:
        finetune: Configuration of finetune with the best parameters, as JSON.
    """
    from components.tune.search import execute_search

    return execute_search(
        config,
        search,
        seed,
        inputs={
            "dataset": dataset,
            "codes": codes,
            "embeddings": embeddings,
            "text_embeddings": text_embeddings,
            "image_embeddings": image_embeddings,
            "pretrained": pretrained,
        },
        pod=(image, accelerator, accelerator_count, node_selector, tolerations, gpu_memory),
        metrics=metrics,
        report=report,
    )
