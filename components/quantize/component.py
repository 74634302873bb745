"""`quantize`: vectors into semantic IDs."""

from kfp.dsl import Input, Metrics, Output

from components.artifacts import ModalrecCodes, ModalrecEmbeddings
from components.stage import stage


@stage
def quantize(
    embeddings: Input[ModalrecEmbeddings],
    config: str,
    seed: int,
    codes: Output[ModalrecCodes],
    metrics: Output[Metrics],
) -> None:
    """Turn vectors into semantic IDs.

    Args:
        embeddings: One vector per item.
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        codes: One semantic ID per item, and the quantizer.
        metrics: Use of the codes, collisions and reconstruction error.
    """
    from components.execute import execute

    execute("quantize", config, seed, inputs={"embeddings": embeddings}, outputs={"codes": codes}, metrics=metrics)
