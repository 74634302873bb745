"""`evaluate` for models of labelled rows: predictions of the test rows, measured; predictions for hidden labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.files import write_json
from modalrec.artifacts.manifest import Manifest, write_artifact
from modalrec.config import dump, resolve
from modalrec.data.rows import Rows, RowsConfig, Task, load_rows
from modalrec.data.splits import TEST, VALID
from modalrec.errors import ConfigError, DataError
from modalrec.evaluation.click_results import ClickResult, baselines, summarise_clicks
from modalrec.evaluation.leakage import measure_leakage
from modalrec.evaluation.predictions import predict
from modalrec.evaluation.rating_baselines import baselines as rating_baselines
from modalrec.evaluation.rating_results import RatingResult, summarise_ratings
from modalrec.evaluation.report.ratings import build_rating_report
from modalrec.evaluation.report.rows import RowContents, build_row_report
from modalrec.evaluation.results import HEADLINE
from modalrec.plugins import discover
from modalrec.recommenders import load_recommender
from modalrec.recommenders._rows import RowModel
from modalrec.run import Run
from modalrec.stages._evaluate_config import Config
from modalrec.stages._evaluate_rankings import Rankings
from modalrec.stages._items import item_content
from modalrec.stages.trained import Trained

ABLATIONS = {"without_popularity": "popularity", "without_codes": "codes", "without_content": "content"}
"""From edge to what the model on it must go without."""
PREDICTIONS = "prediction.csv"


def is_row_model(model: Manifest) -> bool:
    """Whether a model is one of labelled rows."""
    name = (model.config.get("recommender") or {}).get("name", "")
    return issubclass(discover("recommenders").get(name, object), RowModel)


def evaluate_rows(
    folders: Mapping[str, Path],
    manifests: Mapping[str, Manifest],
    models: list[Trained],
    evaluation: Path,
    config: Config,
    run: Run,
) -> dict[str, float]:
    """Measures models on the test rows, or on the validation rows where all labels of the test rows are hidden.

    Writes `metrics.json`, `predictions/*.parquet` and `report.html`; of clicks also `roc.json`, and `prediction.csv`
    for the hidden rows. A model that can be asked about any item ranks the catalogue too, see `evaluation.row_ranking`.

    Args:
        folders: Inputs by edge.
        manifests: Their manifests.
        models: The headline and its ablations, checked against the other inputs.
        evaluation: Where to write.
        config: The stage's configuration.
        run: The stage's run.

    Returns:
        All metrics by name; rows other than the headline carry their name in front.

    Raises:
        ConfigError: An edge is not for models of rows, or an ablation is not what its edge says.
        DataError: No row can be measured or predicted, or the numbers of hidden rows are not consecutive.
        TrainingError: A prediction is not finite.
    """
    _check(models)
    settings = resolve(RowsConfig, manifests[HEADLINE].config.get("rows") or {})
    with_valid = models[0].fit_on == "train_and_valid"
    rows = load_rows(folders["dataset"], config.split, settings, with_valid=with_valid)
    task = _task(models[0])
    places, part = _measurable(rows, task)
    hidden = rows.hidden(TEST) if task == "click" else places[:0]
    _check_numbers(rows, hidden, folders["dataset"])
    if not len(places) and not len(hidden):
        raise DataError(f"{folders['dataset']}: the split {config.split} has no labelled test or validation row")
    if part != "test":
        run.say("the labels of all test rows are hidden: metrics are of the validation rows, which chose the epoch")
    with write_artifact(
        evaluation, "evaluation", stage="evaluate", config=config, seed=run.seed, inputs=manifests
    ) as work:
        results: dict[str, Any] = {}
        rankings = Rankings(rows, config, settings.moments, run)
        (work.folder / "predictions").mkdir()

        def add(role: str, predicted: NDArray[np.float32]) -> None:
            results[role] = _summarise(task, role, rows, places, predicted, config, run)
            work.statistics.update(results[role].flat())
            _write(work.folder / "predictions" / f"{role}.parquet", rows, places, predicted)

        for trained in models:
            model: RowModel = load_recommender(trained.folder, run.torch_device())
            add(trained.edge, predict(model, rows, places, run, what=f"predicting: {trained.edge.replace('_', ' ')}"))
            rankings.add_model(trained.edge, model)
            if trained.edge == HEADLINE and len(hidden):
                predicted = predict(model, rows, hidden, run, what="predicting hidden rows")
                _write_csv(work.folder / PREDICTIONS, rows, hidden, predicted, config.rows.prediction_columns)
        if task == "rating":
            users, items = np.asarray(rows.users[places]), np.asarray(rows.items[places])
            times = None if rows.timestamps is None else rows.timestamps[places]
            edges = (folders.get(edge) for edge in ("embeddings", "text_embeddings", "image_embeddings"))
            content_NV = item_content(folders["dataset"], *edges)
            for role, baseline in rating_baselines(rows, run.rng("biased_mf"), content_NV, rankings.moments).items():
                add(role, baseline.predict(users, items, times))
                rankings.add_baseline(role, baseline)
        else:
            for role, predicted in baselines(rows, places).items():
                add(role, predicted)
        work.statistics |= rankings.flat()
        if task == "click":
            labels = rows.labels[places]
            work.statistics["click_rate"] = float((labels == 1).mean()) if len(places) else 0.0
            work.statistics |= {"hidden_rows": len(hidden), "users_measured": results[HEADLINE].users}
            write_json(work.folder / "roc.json", vars(results[HEADLINE].roc))
        work.statistics["rows"] = len(places)
        if config.primary_metric:
            work.statistics["primary_metric"] = _primary(config.primary_metric, work.statistics)
        write_json(work.folder / "metrics.json", work.statistics)
        contents = RowContents(
            run=run,
            config=dump(config),
            folders=folders,
            manifests=manifests,
            results=results,
            part=part,
            split=config.split,
            leakage=measure_leakage(folders["dataset"], config.split, with_valid=with_valid),
            metrics=dict(work.statistics),
            rankings=rankings.results,
        )
        build = build_rating_report if task == "rating" else build_row_report
        build(contents).write(work.folder)
        metrics: dict[str, float] = dict(work.statistics)
    return metrics


def _task(model: Trained) -> Task:
    """What the headline predicts of a row."""
    chosen = model.manifest.config["recommender"]
    monitored = discover("recommenders")[chosen["name"]].monitored_by(chosen)
    return "rating" if monitored == "neg_rmse" else "click"


def _summarise(
    task: Task,
    role: str,
    rows: Rows,
    places: NDArray[np.int64],
    predicted: NDArray[np.float32],
    config: Config,
    run: Run,
) -> ClickResult | RatingResult:
    rng, samples = run.rng("bootstrap", role), config.rows.bootstrap_samples
    if task == "rating":
        return summarise_ratings(role, rows, places, predicted, rng=rng, samples=samples)
    return summarise_clicks(role, rows, places, predicted, rng=rng, samples=samples, bins=config.rows.bins)


def _check(models: list[Trained]) -> None:
    for trained in models:
        if trained.edge not in {HEADLINE, *ABLATIONS} or not is_row_model(trained.manifest):
            raise ConfigError(f"{trained.folder}: `{trained.edge}` is no edge for models of rows; leave it out")
        lacks = ABLATIONS.get(trained.edge)
        if lacks and lacks not in trained.manifest.config["recommender"].get("without", []):
            raise ConfigError(
                f"{trained.folder}: given as `{trained.edge}`, and its recommender.without has no {lacks!r}; train it "
                f"with recommender.without=[{lacks}]"
            )
        ours, theirs = (one.manifest.config.get("rows") for one in (models[0], trained))
        if ours != theirs:
            raise ConfigError(
                f"{trained.folder}: was trained with rows={theirs}, `model` with {ours}; train both alike"
            )


def _measurable(rows: Rows, task: Task) -> tuple[NDArray[np.int64], str]:
    """The test rows with a label, or a rating, or those of validation where there are none, and which they are."""
    places = rows.of(TEST, task)
    return (places, "test") if len(places) else (rows.of(VALID, task), "valid")


def _check_numbers(rows: Rows, hidden: NDArray[np.int64], dataset: Path) -> None:
    """Refuses numbers of hidden rows that are not 0, 1, 2 and so on, or 1, 2, 3: a challenge scores rows by place."""
    if not len(hidden) or rows.row_ids is None:
        return
    numbers = rows.row_ids[hidden]
    wrong = np.flatnonzero(numbers != numbers[0] + np.arange(len(numbers)))
    if len(wrong) or numbers[0] not in (0, 1):
        place = int(wrong[0]) if len(wrong) else 0
        raise DataError(
            f"{dataset}: row_id of the hidden test rows: {numbers[place]} at place {place}, where "
            f"{(numbers[0] if len(wrong) else 0) + place} was expected; a number is missing or there twice. Run "
            "`ingest` on the whole test file"
        )


def _write(path: Path, rows: Rows, places: NDArray[np.int64], predicted: NDArray[np.float32]) -> None:
    columns = {"row": places, "user": rows.users[places], "item": rows.items[places], "label": rows.labels[places]}
    if rows.ratings is not None:
        columns["rating"] = rows.ratings[places]
    columns["prediction"] = predicted
    pq.write_table(pa.table({name: np.asarray(values) for name, values in columns.items()}), path)


def _write_csv(
    path: Path, rows: Rows, hidden: NDArray[np.int64], predicted: NDArray[np.float32], names: tuple[str, ...]
) -> None:
    """Writes the form that the challenge takes: ID, then the prediction, in the order of the test file."""
    numbers = np.arange(len(hidden)) if rows.row_ids is None else np.asarray(rows.row_ids[hidden])
    pc.write_csv(
        pa.table({"ID": numbers, **dict.fromkeys(names, predicted)}),
        path,
        pc.WriteOptions(quoting_style="none", quoting_header="none"),
    )


def _primary(name: str, numbers: Mapping[str, float]) -> float:
    if name not in numbers:
        raise ConfigError(
            f"primary_metric={name} is not measured of models of rows; of clicks take auc, user_auc or log_loss, of "
            "ratings rmse or mae"
        )
    return numbers[name]
