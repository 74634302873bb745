"""`evaluate`: metrics beside baselines, and the report."""

from kfp.dsl import HTML, ClassificationMetrics, Input, Markdown, Metrics, Output

from components.artifacts import ModalrecCodes, ModalrecDataset, ModalrecEmbeddings, ModalrecEvaluation, ModalrecModel
from components.stage import stage


@stage
def evaluate(
    dataset: Input[ModalrecDataset],
    model: Input[ModalrecModel],
    config: str,
    seed: int,
    evaluation: Output[ModalrecEvaluation],
    metrics: Output[Metrics],
    report: Output[HTML],
    summary: Output[Markdown],
    roc: Output[ClassificationMetrics],
    codes: Input[ModalrecCodes] = None,
    embeddings: Input[ModalrecEmbeddings] = None,
    text_embeddings: Input[ModalrecEmbeddings] = None,
    image_embeddings: Input[ModalrecEmbeddings] = None,
    pretrained: Input[ModalrecModel] = None,
    scratch: Input[ModalrecModel] = None,
    shuffled: Input[ModalrecModel] = None,
    temporal: Input[ModalrecModel] = None,
    without_popularity: Input[ModalrecModel] = None,
    without_codes: Input[ModalrecModel] = None,
    without_content: Input[ModalrecModel] = None,
) -> None:
    """Rank the whole catalogue for every test user, or predict every test row, beside baselines; write the report.

    Args:
        dataset: The histories and their test targets.
        model: The model to judge.
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        evaluation: Metrics, ranks per user and top-k lists (or predictions of rows), and the report.
        metrics: Metrics of the model, the controls and the baselines.
        report: The report as one HTML file.
        summary: The report in short.
        roc: The receiver operating characteristic of a model of clicks; empty for others.
        codes: The items' semantic IDs or code groups, for the report.
        embeddings: The items' vectors, for the baselines of content.
        text_embeddings: The vectors of the items' texts, for the same where `embeddings` is not given.
        image_embeddings: The vectors of the items' pictures, likewise.
        pretrained: The model before finetuning.
        scratch: The model trained without pretraining.
        shuffled: The model trained on shuffled histories.
        temporal: The model trained on the temporal split.
        without_popularity: The model of rows without fields that tell how popular an item is.
        without_codes: The model of rows without the items' codes.
        without_content: The model of rows without the vectors of texts and pictures.
    """
    from components.execute import execute

    execute(
        "evaluate",
        config,
        seed,
        inputs={
            "dataset": dataset,
            "model": model,
            "codes": codes,
            "embeddings": embeddings,
            "text_embeddings": text_embeddings,
            "image_embeddings": image_embeddings,
            "pretrained": pretrained,
            "scratch": scratch,
            "shuffled": shuffled,
            "temporal": temporal,
            "without_popularity": without_popularity,
            "without_codes": without_codes,
            "without_content": without_content,
        },
        outputs={"evaluation": evaluation},
        metrics=metrics,
        report=report,
        summary=summary,
        roc=roc,
    )
