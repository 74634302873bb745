"""The stage `evaluate`: the test part, ranked once, beside baselines and controls; then the report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator, model_validator

from modalrec.artifacts.files import write_json
from modalrec.artifacts.manifest import Manifest, read_manifest, write_artifact
from modalrec.artifacts.schemas import RANKS, TOP_K
from modalrec.config import Config as BaseConfig
from modalrec.config import dump
from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST
from modalrec.errors import ArtifactError, ConfigError, TrainingError
from modalrec.evaluation.item_knn import ItemKNN
from modalrec.evaluation.metrics import TIE_TOLERANCE
from modalrec.evaluation.popularity import Popularity
from modalrec.evaluation.ranking import Ranking, rank
from modalrec.evaluation.report import Contents, build_report
from modalrec.evaluation.results import HEADLINE, Result, summarise
from modalrec.recommenders import Recommender, Scorer, load_recommender
from modalrec.run import Run
from modalrec.stages import EDGES

BASELINES = {"popularity": Popularity, "item_knn": ItemKNN}


class Config(BaseConfig):
    """Configuration of `evaluate`.

    Attributes:
        split: The split of the headline; the control `temporal` is always measured on the temporal one.
        mask_seen: Leave the items of a user's history out of the ranking; false where people come back to items.
        cutoffs: The k of recall_k, ndcg_k, mrr_k and coverage_k.
        list_length: Length of the top-k lists that are kept; at least the largest cut-off.
        batch_size: Histories at a time.
        tile: Items at a time, for models that score the whole catalogue.
        exhaustive: Rank models that can score every item by all scores instead of by their lists.
        beam_sample: Users whose lists are compared with exhaustive scores; 0 for none.
        baselines: What to put beside the model.
        bootstrap_samples: Resamples of the users behind every interval.
        ties: Fail if ties decide more than 0.1 % of the headline's recall (saturated scores), or only report it.
        gallery_users: Users shown in the report.
    """

    split: Literal["leave_one_out", "temporal"] = "leave_one_out"
    mask_seen: bool = True
    cutoffs: tuple[int, ...] = (1, 5, 10, 20)
    list_length: int = Field(50, ge=1)
    batch_size: int = Field(256, ge=1)
    tile: int = Field(4096, ge=1)
    exhaustive: bool = False
    beam_sample: int = Field(100, ge=0)
    baselines: tuple[Literal["popularity", "item_knn"], ...] = ("popularity", "item_knn")
    bootstrap_samples: int = Field(2000, ge=100)
    ties: Literal["fail", "report"] = "fail"
    gallery_users: int = Field(12, ge=0, le=30)

    @field_validator("cutoffs")
    @classmethod
    def _ascending(cls, cutoffs: tuple[int, ...]) -> tuple[int, ...]:
        if not cutoffs or min(cutoffs) < 1:
            raise ValueError("give at least one cut-off, all of them 1 or more")
        return tuple(sorted(set(cutoffs)))

    @model_validator(mode="after")
    def _lists_are_long_enough(self) -> "Config":
        if max(self.cutoffs) > self.list_length:
            raise ValueError(f"list_length={self.list_length} is below the cut-off {max(self.cutoffs)}; raise it")
        return self


@dataclass(frozen=True)
class Trained:
    """A model that came in over an edge."""

    edge: str
    folder: Path
    manifest: Manifest


def evaluate(
    dataset: Path,
    model: Path,
    evaluation: Path,
    codes: Path | None = None,
    pretrained: Path | None = None,
    scratch: Path | None = None,
    shuffled: Path | None = None,
    temporal: Path | None = None,
    *,
    config: Config,
    run: Run,
) -> dict[str, float]:
    """Ranks the whole catalogue for every test user, beside baselines and controls, and writes the report.

    Args:
        dataset: The dataset.
        model: The headline model.
        evaluation: Where to write `metrics.json`, `ranks/*.parquet`, `top_k/*.parquet` and `report.html`.
        codes: Semantic IDs, for the report.
        pretrained: The headline model before finetuning.
        scratch: The model finetuned without pretraining.
        shuffled: A model trained on shuffled histories; it is given histories shuffled in the same way.
        temporal: A model trained on the temporal split; it is ranked there, with baselines of its own.
        config: What to measure.
        run: The stage's run.

    Returns:
        All metrics by name; rows other than the headline carry their name in front.

    Raises:
        ConfigError: A model was trained on another split, or the cut-offs exceed the lists.
        ArtifactError: An input is damaged, or was made from another dataset.
        TrainingError: Scores are NaN or saturated.
    """
    given = {"dataset": dataset, "model": model, "codes": codes, "pretrained": pretrained}
    given |= {"scratch": scratch, "shuffled": shuffled, "temporal": temporal}
    folders = {edge: folder for edge, folder in given.items() if folder is not None}
    manifests = {edge: read_manifest(folder, EDGES[edge]) for edge, folder in folders.items()}
    models = [Trained(edge, folders[edge], manifests[edge]) for edge in folders if EDGES[edge] == "model"]
    for trained in models:
        _check(trained, manifests, config)
    models = [trained for trained in models if _is_trained(trained, run)]
    with write_artifact(
        evaluation, "evaluation", stage="evaluate", config=config, seed=run.seed, inputs=manifests
    ) as work:
        results: dict[str, Result] = {}
        for name, sequences, recommender in _rows(dataset, models, config, run):
            result = _measure(name, recommender, sequences, config, run)
            results[name] = result
            _write_lists(work.folder, result)
            work.statistics |= result.flat()
            if name == HEADLINE:
                _refuse_ties(result, config)
                work.statistics |= _beam_agreement(recommender, result.ranking, sequences, config, run)
        write_json(work.folder / "metrics.json", work.statistics)
        left_out = {edge for edge in folders if EDGES[edge] == "model"} - {trained.edge for trained in models}
        contents = Contents(
            run=run,
            config=dump(config),
            folders={edge: folder for edge, folder in folders.items() if edge not in left_out},
            manifests={edge: manifest for edge, manifest in manifests.items() if edge not in left_out},
            results=results,
            metrics=work.statistics,
            gallery_users=config.gallery_users,
            bootstrap_samples=config.bootstrap_samples,
        )
        html = build_report(contents)
        (work.folder / "report.html").write_text(html, encoding="utf-8")
        metrics: dict[str, float] = dict(work.statistics)
    return metrics


def _rows(
    dataset: Path, models: list[Trained], config: Config, run: Run
) -> Iterator[tuple[str, Sequences, Recommender | Scorer]]:
    """What to rank, one after the other, so that one model is in memory at a time."""
    sequences = Sequences.load(dataset, config.split)
    for trained in models:
        if trained.edge == "temporal":
            continue
        # No order at all before the target, the validation event included.
        ordered = sequences.shuffled(run.rng("shuffle"), TEST) if trained.edge == "shuffled" else sequences
        yield trained.edge, ordered, load_recommender(trained.folder, run.torch_device())
    for baseline in config.baselines:
        yield baseline, sequences, BASELINES[baseline](sequences)
    for trained in models:
        if trained.edge == "temporal":
            later = Sequences.load(dataset, "temporal")
            yield "temporal", later, load_recommender(trained.folder, run.torch_device())
            for baseline in config.baselines:
                yield f"temporal_{baseline}", later, BASELINES[baseline](later)


def _measure(name: str, recommender: Recommender | Scorer, sequences: Sequences, config: Config, run: Run) -> Result:
    ranking = rank(
        recommender,
        sequences,
        sequences.targets(TEST),
        mask_seen=config.mask_seen,
        k=config.list_length,
        run=run,
        batch_size=config.batch_size,
        tile=config.tile,
        exhaustive=config.exhaustive and isinstance(recommender, Scorer),
        what=f"ranking: {name.replace('_', ' ')}",
    )
    if not len(ranking):
        run.say(f"{name}: no test user has a history on the split {sequences.split_name}; its metrics are zero")
    return summarise(name, ranking, sequences, config.cutoffs, run.rng("bootstrap", name), config.bootstrap_samples)


def _check(trained: Trained, manifests: Mapping[str, Manifest], config: Config) -> None:
    """A model of another dataset or split would be measured on what it was trained on; other codes are not its own."""
    for edge in ("dataset", "codes"):
        made_from = trained.manifest.inputs.get(edge)
        if edge in manifests and made_from not in (None, manifests[edge].digest):
            raise ArtifactError(
                f"{trained.folder}: `{trained.edge}` was trained on other {edge} ({str(made_from)[:12]} instead of "
                f"{manifests[edge].digest[:12]}); give that one, or train again"
            )
    split = "temporal" if trained.edge == "temporal" else config.split
    if trained.manifest.config.get("split") != split:
        raise ConfigError(
            f"{trained.folder}: `{trained.edge}` was trained on the split {trained.manifest.config.get('split')!r} and "
            f"would be measured on {split!r}; train it with split={split}"
        )
    if bool(trained.manifest.config.get("shuffle_histories")) != (trained.edge == "shuffled"):
        raise ConfigError(
            f"{trained.folder}: given as `{trained.edge}` and trained with shuffle_histories="
            f"{trained.manifest.config.get('shuffle_histories')}; only the edge `shuffled` takes such a model"
        )


def _is_trained(trained: Trained, run: Run) -> bool:
    """Controls are switched off by zero epochs; the headline is measured in any case."""
    epochs = trained.manifest.statistics.get("epochs")
    if trained.edge == HEADLINE or epochs != 0:
        return True
    run.say(f"{trained.edge}: left out, it was trained for 0 epochs")
    return False


def _refuse_ties(result: Result, config: Config) -> None:
    few = result.tie_gap * len(result.ranking) < 5
    if config.ties == "fail" and result.tie_gap > TIE_TOLERANCE and not few:
        raise TrainingError(
            f"{result.name}: the order of equal scores decides {100 * result.tie_gap:.2f} % of "
            f"recall_{max(config.cutoffs)}: its scores are saturated. Train again with a smaller learning rate, or set "
            "ties=report to see the report all the same"
        )


def _beam_agreement(
    recommender: Recommender | Scorer, ranking: Ranking, sequences: Sequences, config: Config, run: Run
) -> dict[str, float]:
    """How much of the exhaustive top-10 the lists hold, on a sample of the users: the error of the search."""
    both = isinstance(recommender, Recommender) and isinstance(recommender, Scorer)
    if not both or config.exhaustive or not config.beam_sample or not len(ranking) or config.list_length < 10:
        return {}
    targets = sequences.targets(TEST)
    sample = targets.sample(config.beam_sample, run.rng("beam"))
    rows = np.searchsorted(targets.users, sample.users)
    exact = rank(
        recommender,
        sequences,
        sample,
        mask_seen=config.mask_seen,
        k=10,
        run=run,
        batch_size=min(32, config.batch_size),
        tile=config.tile,
        exhaustive=True,
        what="comparing the beam with all scores",
    )
    found = (exact.top.items[:, :, None] == ranking.top.items[rows, None, :10]).any(2)
    return {"beam_agreement_10": float(found[exact.top.items >= 0].mean())}


def _write_lists(folder: Path, result: Result) -> None:
    """Writes `ranks/<name>.parquet` and `top_k/<name>.parquet`."""
    ranking = result.ranking
    (folder / "ranks").mkdir(exist_ok=True)
    (folder / "top_k").mkdir(exist_ok=True)
    columns = [ranking.users, ranking.targets, ranking.greater, ranking.equal]
    ranks = pa.table([pa.array(column) for column in columns], names=RANKS.names).cast(RANKS)
    pq.write_table(ranks, folder / "ranks" / f"{result.name}.parquet")
    filled = ranking.top.items >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(filled.sum(1))]).astype(np.int32))
    items = pa.ListArray.from_arrays(offsets, pa.array(ranking.top.items[filled].astype(np.int32)))
    scores = pa.ListArray.from_arrays(offsets, pa.array(ranking.top.scores[filled]))
    lists = pa.table([pa.array(ranking.users), items, scores], names=TOP_K.names).cast(TOP_K)
    pq.write_table(lists, folder / "top_k" / f"{result.name}.parquet")
