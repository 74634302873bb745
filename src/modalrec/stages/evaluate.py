"""The stage `evaluate`: the test part, ranked once, beside baselines and controls; then the report."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from modalrec.artifacts.files import write_json
from modalrec.artifacts.manifest import read_manifest, write_artifact
from modalrec.config import dump
from modalrec.errors import ConfigError, TrainingError
from modalrec.evaluation.click_results import MEASURED
from modalrec.evaluation.content_nn import ContentNN, ItemKNNContent
from modalrec.evaluation.item_knn import ItemKNN
from modalrec.evaluation.kept import write_ranking
from modalrec.evaluation.leakage import measure_leakage
from modalrec.evaluation.metrics import TIE_TOLERANCE
from modalrec.evaluation.popularity import Popularity
from modalrec.evaluation.ranking import Ranking, rank
from modalrec.evaluation.rating_results import RATED
from modalrec.evaluation.report import Contents, build_report
from modalrec.evaluation.results import HEADLINE, Result, row_name, summarise
from modalrec.recommenders import Recommender, Scorer, load_recommender
from modalrec.run import Run
from modalrec.stages import EDGES
from modalrec.stages._evaluate_config import Baseline, Config
from modalrec.stages._evaluate_rows import ABLATIONS, evaluate_rows, is_row_model
from modalrec.stages._items import item_content
from modalrec.stages.parts import Part, Rules, load_part, load_test_sets
from modalrec.stages.trained import Trained


def evaluate(
    dataset: Path,
    model: Path,
    evaluation: Path,
    codes: Path | None = None,
    embeddings: Path | None = None,
    text_embeddings: Path | None = None,
    image_embeddings: Path | None = None,
    pretrained: Path | None = None,
    scratch: Path | None = None,
    shuffled: Path | None = None,
    temporal: Path | None = None,
    without_popularity: Path | None = None,
    without_codes: Path | None = None,
    without_content: Path | None = None,
    *,
    config: Config,
    run: Run,
) -> dict[str, float]:
    """Ranks the whole catalogue for every test user, beside baselines and controls, and writes the report.

    A model of labelled rows is measured by its predictions of the test rows instead, see `_evaluate_rows`.

    Args:
        dataset: The dataset.
        model: The headline model.
        evaluation: Where to write `metrics.json`, `ranks/*.parquet`, `top_k/*.parquet`, `report.html` and
            `summary.md`.
        codes: Semantic IDs or code groups, for the report.
        embeddings: Items' vectors, for the baselines of content.
        text_embeddings: Vectors of the items' texts, for the same where `embeddings` is not given.
        image_embeddings: Vectors of the items' pictures, likewise.
        pretrained: The headline model before finetuning.
        scratch: The model finetuned without pretraining.
        shuffled: A model trained on shuffled histories; it is given histories shuffled in the same way.
        temporal: A model trained on the temporal split; it is ranked there, with baselines of its own.
        without_popularity: A model of rows without the fields that tell how popular an item is.
        without_codes: A model of rows without the items' codes.
        without_content: A model of rows without the vectors of texts and pictures.
        config: What to measure.
        run: The stage's run.

    Returns:
        All metrics by name; rows other than the headline carry their name in front.

    Raises:
        ConfigError: A model was trained on another split or other parts of it, the cut-offs exceed the lists, or a test
            set is none of the split's.
        ArtifactError: An input is damaged, or was made from another dataset.
        TrainingError: Scores are NaN or saturated, or a prediction is not finite.
    """
    given = {"dataset": dataset, "model": model, "codes": codes, "embeddings": embeddings}
    given |= {"text_embeddings": text_embeddings, "image_embeddings": image_embeddings}
    given |= {"pretrained": pretrained, "scratch": scratch, "shuffled": shuffled, "temporal": temporal}
    given |= {"without_popularity": without_popularity, "without_codes": without_codes}
    given |= {"without_content": without_content}
    folders = {edge: folder for edge, folder in given.items() if folder is not None}
    manifests = {edge: read_manifest(folder, EDGES[edge]) for edge, folder in folders.items()}
    models = [Trained(edge, folders[edge], manifests[edge]) for edge in folders if EDGES[edge] == "model"]
    for trained in models:
        trained.check(manifests, config.split)
    if is_row_model(manifests[HEADLINE]):
        return evaluate_rows(folders, manifests, models, evaluation, config, run)
    _refuse_unfit(models, config)
    if shuffled is not None and config.targets == "every":
        raise ConfigError(
            "shuffled: with targets=every a history is what came before inside the test part, which cannot be shuffled "
            "for one target without moving the next; give the control with targets=last"
        )
    models = [trained for trained in models if trained.has_learnt(run)]
    rules = Rules(config.targets == "every", config.unseen_items == "drop", models[0].fit_on == "train_and_valid")
    headline = load_part(dataset, config.split, rules, run)
    further = load_test_sets(dataset, config.test_sets, rules, run, headline)
    _refuse_names_taken(further, config)
    with write_artifact(
        evaluation, "evaluation", stage="evaluate", config=config, seed=run.seed, inputs=manifests
    ) as work:
        results: dict[str, Result] = {}
        of_content = {"content_nn", "item_knn_content"} & {*config.baselines}
        vectors_NV = item_content(dataset, embeddings, text_embeddings, image_embeddings) if of_content else None
        for role, part, recommender in _rows(dataset, models, [headline, *further], vectors_NV, rules, config, run):
            result = _measure(role, recommender, part, config, run)
            results[result.name] = result
            write_ranking(work.folder, result.name, result.ranking)
            work.statistics |= result.flat()
            if result.name == HEADLINE:
                _refuse_ties(result, config)
                work.statistics |= _beam_agreement(recommender, result.ranking, part, config, run)
        if config.primary_metric:
            work.statistics["primary_metric"] = work.statistics[config.primary_metric]
        write_json(work.folder / "metrics.json", work.statistics)
        left_out = {edge for edge in folders if EDGES[edge] == "model"} - {trained.edge for trained in models}
        contents = Contents(
            run=run,
            config=dump(config),
            folders={edge: folder for edge, folder in folders.items() if edge not in left_out},
            manifests={edge: manifest for edge, manifest in manifests.items() if edge not in left_out},
            results=results,
            sequences=headline.sequences,
            leakage=measure_leakage(dataset, config.split, with_valid=rules.with_valid),
            metrics=work.statistics,
            gallery_users=config.gallery_users,
            bootstrap_samples=config.bootstrap_samples,
        )
        build_report(contents).write(work.folder)
        metrics: dict[str, float] = dict(work.statistics)
    return metrics


def _rows(
    dataset: Path,
    models: list[Trained],
    parts: list[Part],
    vectors_NV: NDArray[np.float32] | None,
    rules: Rules,
    config: Config,
    run: Run,
) -> Iterator[tuple[str, Part, Recommender | Scorer]]:
    """What to rank, one after the other, so that one model is in memory at a time."""
    headline, *further = parts
    for trained in models:
        if trained.edge == "temporal":
            continue
        # No order at all before the target, the validation event included.
        part = headline.shuffled(run.rng("shuffle")) if trained.edge == "shuffled" else headline
        recommender = load_recommender(trained.folder, run.torch_device())
        yield trained.edge, part, recommender
        if trained.edge == HEADLINE:
            yield from ((HEADLINE, other, recommender) for other in further)
    yield from _baselines(parts, vectors_NV, config)
    for trained in models:
        if trained.edge == "temporal":
            later = load_part(dataset, "temporal", rules, run, "temporal")
            yield HEADLINE, later, load_recommender(trained.folder, run.torch_device())
            yield from _baselines([later], vectors_NV, config)


def _baselines(
    parts: list[Part], vectors_NV: NDArray[np.float32] | None, config: Config
) -> Iterator[tuple[str, Part, Scorer]]:
    """Every baseline on parts whose train events are the same."""
    sequences = parts[0].sequences
    knn = cache(lambda: ItemKNN(sequences))
    known: dict[str, Callable[[], Scorer]] = {"popularity": lambda: Popularity(sequences), "item_knn": knn}
    if vectors_NV is not None:
        known |= {
            "content_nn": lambda: ContentNN(vectors_NV),
            "item_knn_content": lambda: ItemKNNContent(knn(), ContentNN(vectors_NV)),
        }
    for name in config.baselines:
        if name in known:
            scorer = known[name]()
            yield from ((name, part, scorer) for part in parts)


def _refuse_unfit(models: list[Trained], config: Config) -> None:
    for trained in models:
        if trained.edge in ABLATIONS or is_row_model(trained.manifest):
            raise ConfigError(
                f"{trained.folder}: `{trained.edge}` is for models of rows, and `model` is none; leave it out"
            )
    if config.primary_metric in (*MEASURED, *RATED):
        raise ConfigError(
            f"primary_metric={config.primary_metric} is measured of models of rows; take recall_10 or ndcg_10"
        )


def _refuse_names_taken(further: list[Part], config: Config) -> None:
    for part in further:
        names = {row_name(role, part.name) for role in (HEADLINE, *config.baselines)}
        if names & (EDGES.keys() | {*get_args(Baseline)}) or part.name.startswith("temporal"):
            raise ConfigError(f"test_sets: rows named after {part.name!r} exist already; name the test set otherwise")


def _measure(role: str, recommender: Recommender | Scorer, part: Part, config: Config, run: Run) -> Result:
    name = row_name(role, part.name)
    ranking = rank(
        recommender,
        part.sequences,
        part.targets,
        mask_seen=config.mask_seen,
        k=config.list_length,
        run=run,
        batch_size=config.batch_size,
        tile=config.tile,
        exhaustive=isinstance(recommender, Scorer) and (config.exhaustive or _is_exact(recommender)),
        candidates=part.candidates,
        what=f"ranking: {name.replace('_', ' ')}",
    )
    if not len(ranking):
        run.say(f"{name}: nothing to rank on the split {part.sequences.split_name}: no target has a history")
    return summarise(
        role,
        ranking,
        part.sequences,
        config.cutoffs,
        run.rng("bootstrap", name),
        config.bootstrap_samples,
        part=part.name,
        ties=config.tie_mode,
        primary=config.primary_metric,
        dropped=part.dropped,
        cold_below=config.cold_below,
    )


def _is_exact(recommender: Recommender | Scorer) -> bool:
    """Whether its lists are the best by score: scores then tell the same and more."""
    return isinstance(recommender, Recommender) and recommender.exact


def _refuse_ties(result: Result, config: Config) -> None:
    few = result.tie_gap * len(result.ranking) < 5
    if config.ties == "fail" and result.tie_gap > TIE_TOLERANCE and not few:
        raise TrainingError(
            f"{result.name}: the order of equal scores decides {100 * result.tie_gap:.2f} % of "
            f"recall_{max(config.cutoffs)}: its scores are saturated. Train again with a smaller learning rate, or set "
            "ties=report to see the report all the same"
        )


def _beam_agreement(
    recommender: Recommender | Scorer, ranking: Ranking, part: Part, config: Config, run: Run
) -> dict[str, float]:
    """How much of the exhaustive top-10 the lists hold, on a sample of the users: the error of the search."""
    both = isinstance(recommender, Recommender) and isinstance(recommender, Scorer) and not _is_exact(recommender)
    if not both or config.exhaustive or not config.beam_sample or not len(ranking) or config.list_length < 10:
        return {}
    sample = part.targets.sample(config.beam_sample, run.rng("beam"))
    rows = np.searchsorted(part.targets.ends, sample.ends)
    exact = rank(
        recommender,
        part.sequences,
        sample,
        mask_seen=config.mask_seen,
        k=10,
        run=run,
        batch_size=min(32, config.batch_size),
        tile=config.tile,
        exhaustive=True,
        candidates=part.candidates,
        what="comparing the beam with all scores",
    )
    found = (exact.top.items[:, :, None] == ranking.top.items[rows, None, :10]).any(2)
    return {"beam_agreement_10": float(found[exact.top.items >= 0].mean())}
