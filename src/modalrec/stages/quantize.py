"""The stage `quantize`: vectors become semantic IDs, a few codes per item and no two items alike."""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from modalrec import config as configs
from modalrec import plugins
from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.codes import write_codes
from modalrec.artifacts.embeddings import load
from modalrec.artifacts.files import write_json
from modalrec.data.semantic_ids import with_positions
from modalrec.errors import DataError
from modalrec.evaluation.codes import colliding, level_usage
from modalrec.quantizers import Quantizer, save_quantizer
from modalrec.quantizers.rqvae import RqvaeConfig
from modalrec.run import Run
from modalrec.training.checkpoint import fingerprint
from modalrec.training.loop import TrainingConfig, fit
from modalrec.training.vectors import VectorBatches

# N items, D length of the vectors, L levels.

INITIAL_ROWS = 65_536
"""Vectors that a quantizer is initialised from: 256 for each of 256 codes."""
BLOCK_ROWS = 8192
LARGEST = 1e15
MONITOR = "held_out_explained_variance"


class QuantizerTraining(TrainingConfig):
    """Training with defaults for quantizers.

    Attributes:
        epochs: 50, what a laptop does in half a minute; early stopping often needs fewer.
        batch_size: 256, a quarter of LC-Rec's, since catalogues are small.
        learning_rate: 1e-3, as in LC-Rec and LIGER.
        weight_decay: 1e-4, as in LC-Rec: codes should not shrink.
        warmup_steps: 20, since k-means has set the codes and Adam's first steps are its largest.
        patience: 10 epochs without a better reconstruction of held-out items.
    """

    epochs: int = Field(50, ge=0)
    batch_size: int = Field(256, ge=1)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(20, ge=0)
    patience: int = Field(10, ge=0)


class Config(configs.Config):
    """How vectors are quantized.

    Attributes:
        quantizer: Any quantizer.
        training: How to train it.
        held_out: Share of the items that are coded but not learnt from; the epoch that reconstructs them best is kept,
            so that codes describe items rather than memorise them. 0 keeps the last epoch.
    """

    quantizer: plugins.any_config("quantizers") = RqvaeConfig()  # type: ignore[valid-type]
    training: QuantizerTraining = QuantizerTraining()
    held_out: float = Field(0.05, ge=0, lt=1)


def quantize(embeddings: Path, codes: Path, *, config: Config, run: Run) -> dict[str, float]:
    """Trains a quantizer on the items' vectors and gives every item its semantic ID.

    An item without a vector does not take part in training; it gets the codes of the mean of all vectors, and a place
    behind the items that really have these codes.

    Args:
        embeddings: One vector per item.
        codes: Where to write semantic IDs and quantizer.
        config: Quantizer and training.
        run: The stage's run.

    Returns:
        Items, those without a vector, collisions and the largest group before positions tell its items apart, usage,
        perplexity and normalised entropy of each level, and the squared error of the reconstruction relative to the
        variance, of all items and of the held-out ones.

    Raises:
        DataError: No item has a vector, or one has extreme values.
        ArtifactError: The embeddings are damaged, or one is not finite.
        TrainingError: The training diverged.
    """
    manifests = {"embeddings": read_manifest(embeddings, "embeddings")}
    item_ids, present_N, vectors_ND = load(embeddings)
    if not present_N.any():
        raise DataError(f"{embeddings}: none of the {len(item_ids)} items has a vector; embed texts or images first")
    _refuse_extremes(embeddings, item_ids, vectors_ND)
    vectors_ND[~present_N] = vectors_ND[present_N].mean(0)
    with write_artifact(codes, "codes", stage="quantize", config=config, seed=run.seed, inputs=manifests) as work:
        learnt, held_out = _divide(np.flatnonzero(present_N), config.held_out, run)
        training = fingerprint("quantize", config, run.seed, manifests)
        quantizer, curves = _train(vectors_ND[learnt], vectors_ND[held_out], training, config, run)
        codes_NL, errors_N = _code(quantizer, vectors_ND)
        semantic_ids = with_positions(codes_NL, np.where(present_N, errors_N, np.inf))
        sizes = [*quantizer.codebook_sizes, int(semantic_ids[:, -1].max()) + 1]
        write_codes(work.folder, item_ids, semantic_ids)
        save_quantizer(work.folder, quantizer, sizes)
        write_json(work.folder / "curves.json", curves)
        metrics: dict[str, float] = {"items": len(item_ids), "items_without_vector": int((~present_N).sum())}
        metrics |= _usage(codes_NL, sizes)
        mean_D = vectors_ND[learnt].mean(0)
        metrics["relative_reconstruction_error"] = _relative(errors_N[present_N], vectors_ND[present_N], mean_D)
        if len(held_out):
            error = _relative(errors_N[held_out], vectors_ND[held_out], mean_D)
            metrics["held_out_relative_reconstruction_error"] = error
        metrics["epochs"] = len(curves)
        best = max(curves, key=lambda entry: entry.get(MONITOR, entry["epoch"]), default={"epoch": 0})
        metrics["best_epoch"] = best["epoch"]
        work.statistics |= {**metrics, "codebook_sizes": sizes, "quantizer": config.quantizer.name}
    if sizes[-1] > max(sizes[:-1]):
        run.say(f"one group of {sizes[-1]:,} items shares all codes: raise quantizer.levels or look for equal items")
    return metrics


def _refuse_extremes(embeddings: Path, item_ids: NDArray[np.object_], vectors_ND: NDArray[np.float32]) -> None:
    largest_N = np.abs(vectors_ND).max(axis=1)
    row = int(largest_N.argmax())
    if largest_N[row] > LARGEST:
        raise DataError(
            f"{embeddings}: row {row} (item {item_ids[row]!r}) has the extreme value {largest_N[row]:.3g}, whose "
            "square is beyond float32; scale the vectors, to length 1 for example as `fuse` does"
        )


def _divide(rows: NDArray[np.int64], share: float, run: Run) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to learn from and those held out, each in the items' order."""
    shuffled = run.rng("held_out").permutation(rows)
    count = int(len(rows) * share)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def _train(
    learnt_ND: NDArray[np.float32], held_out_ND: NDArray[np.float32], training: str, config: Config, run: Run
) -> tuple[Quantizer, list[dict[str, float]]]:
    torch.manual_seed(run.seed)
    quantizer: Quantizer = plugins.create("quantizers", config.quantizer, learnt_ND.shape[1])
    sample = np.sort(run.rng("initialise").permutation(len(learnt_ND))[:INITIAL_ROWS])
    quantizer.to(run.torch_device()).initialise(torch.from_numpy(learnt_ND[sample]).to(run.torch_device()))
    mean_D = learnt_ND.mean(0)

    def validate() -> dict[str, float]:
        return {MONITOR: 1 - _relative(_code(quantizer, held_out_ND)[1], held_out_ND, mean_D)}

    curves = fit(
        quantizer,
        VectorBatches(torch.from_numpy(learnt_ND), config.training.batch_size, run),
        config=config.training,
        run=run,
        fingerprint=training,
        validate=validate if len(held_out_ND) else None,
        monitor=MONITOR,
    )
    return quantizer, curves


def _code(quantizer: Quantizer, vectors_ND: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Codes [N, L] and the squared error of each reconstruction [N]."""
    device = next(quantizer.parameters()).device
    codes, errors = [], []
    for block in torch.from_numpy(vectors_ND).split(BLOCK_ROWS):
        block_ND = block.to(device)
        codes_NL = quantizer.encode(block_ND)
        errors.append((quantizer.decode(codes_NL) - block_ND).pow(2).sum(1).cpu().numpy())
        codes.append(codes_NL.to(torch.int32).cpu().numpy())
    return np.concatenate(codes), np.concatenate(errors)


def _relative(errors_N: NDArray[np.float32], vectors_ND: NDArray[np.float32], mean_D: NDArray[np.float32]) -> float:
    """Squared error of the reconstructions over that of the mean; 0 where all vectors are the same."""
    error = float(errors_N.sum(dtype=np.float64))
    spread = float(np.square(vectors_ND - mean_D).sum(dtype=np.float64))
    return error / spread if spread else 0.0


def _usage(codes_NL: NDArray[np.int32], sizes: list[int]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for level, usage in enumerate(level_usage(codes_NL, sizes[:-1]), start=1):
        size = len(usage.counts)
        metrics[f"level_{level}_usage"] = usage.used / size
        metrics[f"level_{level}_perplexity"] = usage.perplexity
        metrics[f"level_{level}_normalised_entropy"] = usage.entropy / math.log2(size) if size > 1 else 1.0
    metrics["collisions"] = colliding(codes_NL)
    metrics["distinct"] = len(codes_NL) - metrics["collisions"]
    metrics["largest_group"] = sizes[-1]
    return metrics
