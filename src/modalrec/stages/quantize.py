"""The stage `quantize`: vectors become semantic IDs, a few codes per item and no two items alike, or code groups."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from modalrec import config as configs
from modalrec import plugins
from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.files import write_json
from modalrec.errors import ConfigError, DataError
from modalrec.quantizers import Quantizer
from modalrec.quantizers.rqvae import RQVAEConfig
from modalrec.run import Run
from modalrec.stages._identity import vector_space
from modalrec.stages._items import train_items
from modalrec.stages._quantize_code import Divided, any_present, code, code_all, item_map, relative
from modalrec.stages._quantize_codebook import load_codebook, settings_of
from modalrec.stages._quantize_read import Tower, choose_edges, read_partners, read_towers
from modalrec.stages._quantize_write import write_groups, write_semantic_ids
from modalrec.training.checkpoint import fingerprint
from modalrec.training.collaborative import AlignedBatches
from modalrec.training.last_level import LastLevel
from modalrec.training.loop import TrainingConfig, fit
from modalrec.training.vectors import Chosen, VectorBatches

# N items, D length of the vectors, L levels, P length of collaborative vectors.

INITIAL_ROWS = 65_536
"""Vectors that a quantizer is initialised from: 256 for each of 256 codes."""
MONITOR = "held_out_explained_variance"


class QuantizerTraining(TrainingConfig):
    """Training with defaults for quantizers; those that are not trained by gradient need none.

    Attributes:
        epochs: 50, what a laptop does in half a minute; early stopping often needs fewer.
        batch_size: 256, a quarter of LC-Rec's, since catalogues are small.
        learning_rate: 1e-3, as in LC-Rec and LIGER.
        weight_decay: 1e-4, as in LC-Rec: codes should not shrink.
        warmup_steps: 20, since k-means has set the codes and Adam's first steps are its largest.
        patience: 10 epochs without a better reconstruction of the items of `valid_share`.
    """

    epochs: int = Field(50, ge=0)
    batch_size: int = Field(256, ge=1)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(20, ge=0)
    patience: int = Field(10, ge=0)


class Config(configs.Config):
    """How vectors are quantized.

    Where a codebook is given, it brings all settings but `last_level`.

    Attributes:
        quantizer: Any quantizer.
        training: How to train it.
        valid_share: Share of the items that are coded but not learnt from; the epoch that reconstructs them best is
            kept, so that codes describe items rather than memorise them. 0 keeps the last epoch.
        towers: What is coded: the fused vector, or text and image by a quantizer each, one's codes behind the other's,
            with code spaces of their own or a shared one, which needs vectors of one length.
        form: What the codes are for. `semantic_id` is one tuple an item, for recommenders that name items by their
            codes: a position behind the codes tells items apart. `groups` are features of items, for models of clicks:
            one named group of codes a tower, `text` and `image` (or `content`, fused), and items may have the same. A
            modality without any vector then has no group.
        last_level: Codes of the last level where items share all codes: nearest leaves them to the position that tells
            them apart, distinct gives each the best code that no other has, sinkhorn spreads them as LC-Rec does.
        learn_from: Learn from all items; or, which needs the dataset, from those with a train event alone, so that new
            items are coded by a codebook that has not seen them.
        split: Where the dataset is needed, the split whose train events count.
    """

    quantizer: plugins.any_config("quantizers") = RQVAEConfig()  # type: ignore[valid-type]
    training: QuantizerTraining = QuantizerTraining()
    valid_share: float = Field(0.05, ge=0, lt=1)
    towers: Literal["fused", "separate", "shared"] = "fused"
    form: Literal["semantic_id", "groups"] = "semantic_id"
    last_level: LastLevel = "nearest"
    learn_from: Literal["all", "train"] = "all"
    split: str = "leave_one_out"

    @model_validator(mode="after")
    def _groups_may_be_equal(self) -> "Config":
        if self.form == "groups" and self.last_level != "nearest":
            raise ValueError(f"last_level={self.last_level} tells items apart, which groups need not be; set nearest")
        return self


def quantize(
    codes: Path,
    embeddings: Path | None = None,
    text_embeddings: Path | None = None,
    image_embeddings: Path | None = None,
    dataset: Path | None = None,
    codebook: Path | None = None,
    *,
    config: Config,
    run: Run,
) -> dict[str, float]:
    """Trains a quantizer on the items' vectors, or takes one that is given, and gives every item its codes.

    An item without a vector does not take part in training; it gets the codes of the mean of all vectors, and a place
    behind the items that really have these codes.

    Args:
        codes: Where to write semantic IDs or code groups, and the quantizers.
        embeddings: One vector per item, for fused towers.
        text_embeddings: One vector per item, for one tower per modality.
        image_embeddings: One vector per item, for one tower per modality.
        dataset: Needed by a quantizer with alignment, which reads the train events, and to learn from their items
            alone; test events never enter.
        codebook: Codes of other items, whose quantizer codes these; nothing is trained then. Equal codes mean the same
            in both, so that a model can go on from one to the other; only positions may differ in number.
        config: Quantizer and training.
        run: The stage's run.

    Returns:
        Items, those without a vector, collisions (items minus distinct IDs) and the largest group before positions tell
        its items apart, usage, perplexity and normalised entropy of each level, and the squared error of the
        reconstruction relative to the variance, of all items and of the held-out ones. `nearest_` marks what was before
        `last_level` moved codes, `collisions_left` what is left in the end: none. Of code groups, usage, perplexity and
        normalised entropy are means over a group's codes, under its name.

    Raises:
        ConfigError: An edge is missing that the settings need, or a setting is not the codebook's.
        DataError: No item has a vector, or one has extreme values.
        ArtifactError: The embeddings are damaged, one is not finite, or they are not like those of the codebook.
        TrainingError: The training diverged.
    """
    reused = read_manifest(codebook, "codes") if codebook is not None else None
    if codebook is not None and reused is not None:
        config = settings_of(codebook, reused, config)
    given = {"embeddings": embeddings, "text_embeddings": text_embeddings, "image_embeddings": image_embeddings}
    all_needed = config.form == "semantic_id"
    folders = choose_edges(given, config.towers, all_needed=all_needed)
    used = {edge: folder for edge, folder in given.items() if folder in folders.values()}
    manifests = {edge: read_manifest(folder, "embeddings") for edge, folder in used.items() if folder}
    towers = read_towers(folders, config.towers == "shared", all_needed=all_needed)
    if len(towers) < len(folders):
        run.say(f"only {towers[0].name} has vectors: there is no other group")
    spaces = {edge: space for edge, manifest in manifests.items() if (space := vector_space(manifest))}
    trained, partners_NP, known_N = None, None, None
    if codebook is not None and reused is not None:
        trained = load_codebook(codebook, reused, towers, folders, manifests)
        manifests["codebook"] = reused
    elif getattr(config.quantizer, "alignment", 0):
        width = config.quantizer.collaborative_width
        partners_NP = read_partners(dataset, config.split, width, towers[0].item_ids, run.seed)
    if config.learn_from == "train" and trained is None:
        if dataset is None:
            raise ConfigError("quantize: learn_from=train needs the train events; give --dataset, or learn from all")
        known_N = train_items(dataset, config.split, towers[0].item_ids)
    if dataset is not None and (partners_NP is not None or known_N is not None):
        manifests["dataset"] = read_manifest(dataset, "dataset")
    with write_artifact(codes, "codes", stage="quantize", config=config, seed=run.seed, inputs=manifests) as work:
        training = fingerprint("quantize", config, run.seed, manifests)
        learner = _Learner(config, run, training, partners_NP, known_N)
        quantizers = learner.learn(towers) if trained is None else learner.take(towers, trained)
        metrics: dict[str, float] = {"items": len(towers[0].item_ids)}
        metrics["items_without_vector"] = int((~any_present(towers)).sum())
        codes_NL, errors_N = code_all(quantizers, towers, learner.divided, config.last_level, metrics)
        if config.form == "groups":
            metrics |= write_groups(work, towers, quantizers, codes_NL, run)
        else:
            metrics |= write_semantic_ids(work, towers, quantizers, codes_NL, errors_N, run)
        write_json(work.folder / "curves.json", learner.curves)
        write_json(work.folder / "map.json", item_map(towers[0], run))
        metrics |= learner.epochs()
        work.statistics |= {**metrics, "quantizer": config.quantizer.name, "vector_spaces": spaces}
    return metrics


class _Learner:
    """Trains the quantizers of all towers: one each, or one for all where the code space is shared."""

    def __init__(
        self,
        config: Config,
        run: Run,
        training: str,
        partners_NP: NDArray[np.float32] | None,
        known_N: NDArray[np.bool_] | None,
    ) -> None:
        self.config, self.run, self.training = config, run, training
        self.partners_NP, self.known_N = partners_NP, known_N
        self.curves: list[dict[str, Any]] = []
        self.divided = Divided({}, {})

    def learn(self, towers: list[Tower]) -> list[Quantizer]:
        """The trained quantizer of each tower."""
        n_items = len(towers[0].item_ids)
        kept_N = np.ones(n_items, bool)  # the same items for all towers
        kept_N[self.run.rng("held_out").permutation(n_items)[: int(n_items * self.config.valid_share)]] = False
        for tower in towers:
            known_N = tower.present_N if self.known_N is None else tower.present_N & self.known_N
            if not known_N.any():
                raise DataError("quantize: no item with a train event has a vector; learn from all")
            learnt_N = known_N & (kept_N | ~(known_N & kept_N).any())
            self.divided.learnt[tower.name] = np.flatnonzero(learnt_N)
            self.divided.held_out[tower.name] = np.flatnonzero(known_N & ~learnt_N)
        if self.config.towers == "shared":
            return [self._train(towers, "")] * len(towers)
        return [self._train([tower], tower.name) for tower in towers]

    def take(self, towers: list[Tower], trained: list[Quantizer]) -> list[Quantizer]:
        """Quantizers that were trained on other items: none of these are learnt from or held out."""
        for tower in towers:
            self.divided.learnt[tower.name] = np.flatnonzero(tower.present_N)
            self.divided.held_out[tower.name] = np.flatnonzero(~tower.present_N)[:0]
        device = self.run.torch_device()
        self.run.say("nothing is trained: the codebook is given")
        return [quantizer.to(device) for quantizer in trained]

    def epochs(self) -> dict[str, float]:
        """How many epochs were trained, of all quantizers together, and the best epoch, whichever quantizer had it."""
        best = max(self.curves, key=lambda entry: entry[MONITOR if MONITOR in entry else "epoch"], default={"epoch": 0})
        return {"epochs": len(self.curves), "best_epoch": best["epoch"]}

    def _train(self, towers: list[Tower], name: str) -> Quantizer:
        config, run = self.config, self.run
        learnt = [self.divided.learnt[tower.name] for tower in towers]
        learnt_ND = Chosen([(tower.vectors_ND, rows) for tower, rows in zip(towers, learnt, strict=True)])
        held_out_ND = Chosen([(tower.vectors_ND, self.divided.held_out[tower.name]) for tower in towers])
        torch.manual_seed(run.seed)
        quantizer: Quantizer = plugins.create("quantizers", config.quantizer, learnt_ND.shape[1])
        sample = np.sort(run.rng("initialise").permutation(len(learnt_ND))[:INITIAL_ROWS])
        quantizer.to(run.torch_device()).initialise(torch.from_numpy(learnt_ND[sample]).to(run.torch_device()))
        if not quantizer.by_gradient:
            return quantizer.eval()
        mean_D = learnt_ND.mean()
        batches = VectorBatches(learnt_ND, config.training.batch_size, run)
        if self.partners_NP is not None:
            partners_NP = np.concatenate([self.partners_NP[rows] for rows in learnt])
            batches = AlignedBatches(learnt_ND, partners_NP, config.training.batch_size, run)

        def validate() -> dict[str, float]:
            error = relative(code(quantizer, held_out_ND)[1], held_out_ND, mean_D)
            run.metrics(held_out_relative_reconstruction_error=error)  # a search may end a trial by it
            return {MONITOR: 1 - error}

        curves = fit(
            quantizer,
            batches,
            config=config.training,
            run=run,
            fingerprint=f"{name}-{self.training}" if name else self.training,
            validate=validate if len(held_out_ND) else None,
            monitor=MONITOR,
        )
        self.curves += [{**entry, **({"tower": name} if name else {})} for entry in curves]
        return quantizer
