"""`quantize`: vectors into semantic IDs or code groups."""

from kfp.dsl import Input, Metrics, Output

from components.artifacts import ModalrecCodes, ModalrecDataset, ModalrecEmbeddings
from components.stage import stage


@stage
def quantize(
    config: str,
    seed: int,
    codes: Output[ModalrecCodes],
    metrics: Output[Metrics],
    embeddings: Input[ModalrecEmbeddings] = None,
    text_embeddings: Input[ModalrecEmbeddings] = None,
    image_embeddings: Input[ModalrecEmbeddings] = None,
    dataset: Input[ModalrecDataset] = None,
    codebook: Input[ModalrecCodes] = None,
) -> None:
    """Turn vectors into semantic IDs, or into named groups of codes.

    Args:
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        codes: One semantic ID or several groups of codes per item, and the quantizers.
        metrics: Use of the codes, collisions and reconstruction error.
        embeddings: One fused vector per item.
        text_embeddings: Vectors of the texts, for one tower per modality.
        image_embeddings: Vectors of the pictures, for one tower per modality.
        dataset: The histories, for a quantizer that aligns with collaborative vectors or learns from train items alone;
            only train events are read.
        codebook: Codes of other items, whose quantizer codes these; nothing is trained then.
    """
    from components.execute import execute

    execute(
        "quantize",
        config,
        seed,
        inputs={
            "embeddings": embeddings,
            "text_embeddings": text_embeddings,
            "image_embeddings": image_embeddings,
            "dataset": dataset,
            "codebook": codebook,
        },
        outputs={"codes": codes},
        metrics=metrics,
    )
