"""How good models of clicks are on real data: MovieLens with 4 stars and more as clicks, split by time and at random.

`din` and `target_transformer` with the settings of the preset `ctr`, which were chosen on validation parts alone;
din without codes or popularity; scikit-learn's logistic regression and gradient boosting on the same fields, theirs
chosen on validation too; and the item's own rate. Test rows are predicted once for each of three seeds.
FuxiCTR's DIN learns beside ours from the same first weights, rows and batches, on the fields that both take: item,
genres and year, histories of liked items, no dropout. Predictions are kept in `out/cache/ctr_quality`, so an
interrupted run goes on; a model takes a minute of one core.
"""

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modalrec.artifacts.codes import read_code_groups
from modalrec.config import resolve
from modalrec.data.rows import Rows, RowsConfig, load_rows
from modalrec.data.splits import TEST, TRAIN
from modalrec.evaluation.click_results import baselines, parts
from modalrec.evaluation.ctr import auc, log_loss, resampled_aucs, user_auc
from modalrec.evaluation.predictions import predict
from modalrec.recommenders import load_recommender
from modalrec.recommenders.din import DIN, DINConfig
from modalrec.run import Run
from modalrec.stages._rows import row_space
from modalrec.training.loop import TrainingConfig
from modalrec.training.rows import RowBatches, collate
from tests.benchmarks._ctr_data import PRESET, SPLITS, prepared
from tests.benchmarks._ctr_features import gradient_boosting, logistic_regression
from tests.benchmarks._quality_data import real_data, stage
from tests.benchmarks._quality_settings import over
from tests.recommenders.din_cases import write_case

# E test rows, S resamples, U users.

Row = dict[str, Any]
Said = NDArray[np.float32]
CHOSEN: Row = PRESET["finetune"]
TRAINED: dict[str, Row] = {
    "din": CHOSEN,
    "din_without_codes": over(CHOSEN, recommender={"without": ["codes"]}),
    "din_without_popularity": over(CHOSEN, recommender={"without": ["popularity"]}),
    "target_transformer": {
        **CHOSEN,
        "recommender": {"name": "target_transformer", "width": 8, "feed_forward_width": 64},
    },
}
TRIED: list[Row] = [
    {},
    {"rows": {"history": "positive"}},
    {"recommender": {"width": 16, "attention": [64], "layers": [128, 64]}},
    {"recommender": {"user_id": True, "dropout": 0.5, "embedding_decay": 1e-4, "layers": [128, 64]}},
    {"recommender": {"batch_norm": True, "layers": [128, 64]}},
    {"recommender": {"user_id": True, "layers": [128, 64]}, "training": {"learning_rate": 0.003}},
]
"""What was tried for din on the validation part of ml_100k, split by time."""
OTHERS = {"logistic_regression": logistic_regression, "gradient_boosting": gradient_boosting}
BESIDE = ("din_as_fuxictr", "fuxictr_din")
ROWS = ("item_rate", *OTHERS, *TRAINED, *BESIDE)
SEEDLESS = {"item_rate", *OTHERS}
FUXICTR: Row = {"width": 16, "attention": [64], "layers": [128, 64], "dropout": 0.0, "tables": "adam", "history": 64}
EPOCHS, BATCH, RATE = 2, 1024, 1e-3
SAMPLES = 500
COMPARED = (
    ("din", "din_without_codes"),
    ("din", "din_without_popularity"),
    ("din", "logistic_regression"),
    ("din", "gradient_boosting"),
    ("fuxictr_din", "din_as_fuxictr"),
)


def main(argv: Sequence[str] = ()) -> None:
    """Trains what is missing and prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ctr_quality", description=__doc__)
    parser.add_argument("datasets", nargs="*", metavar="DATASET", default=["ml_100k", "ml_latest_small"])
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=SPLITS)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", action="store_true", help="measure every setting that was tried, on validation")
    parser.add_argument("--fuxictr", metavar="DIR", help="your venv with fuxictr 2.3.7, for the rows beside it")
    parser.add_argument("--measured", action="store_true", help="print what is measured already and train nothing")
    given = parser.parse_args(argv)
    if given.fuxictr:
        os.environ["FUXICTR"] = given.fuxictr
    if real_data() is None:
        print("skipped: set MODALREC_DATA to the folder of real data")
        return
    for dataset in given.datasets:
        for split in given.splits:
            if given.tune:
                tune(dataset, split)
                continue
            for seed in range(0 if given.measured else given.seeds):
                for row in given.rows:
                    if row not in SEEDLESS or seed == 0:
                        measure(dataset, split, row, seed)
            table(dataset, split, given.rows, given.seeds)


def tune(dataset: str, split: str) -> None:
    """Prints the validation AUC of every setting that was tried."""
    folder = prepared(dataset)
    for overrides in TRIED:
        settings = {**over(CHOSEN, **overrides), "split": split}
        with tempfile.TemporaryDirectory() as there:
            edges = (folder / "dataset", Path(there) / "model", folder / "codes")
            found = stage("finetune", *edges, settings=settings)
        print(
            f"valid auc {found['valid_auc']:.4f}, epoch {found['best_epoch']:.0f}  {json.dumps(overrides)}", flush=True
        )


def measure(dataset: str, split: str, row: str, seed: int) -> None:
    """Predicts the test rows, unless that has been done with the same settings."""
    place = _place(dataset, split, row, seed)
    if place.is_file() or (row == "fuxictr_din" and "FUXICTR" not in os.environ):
        return
    folder, settings = prepared(dataset), {**TRAINED.get(row, CHOSEN), "split": split}
    rows = load_rows(folder / "dataset", split, resolve(RowsConfig, settings["rows"]))
    places = rows.of(TEST, "click")
    if row == "item_rate":
        said = baselines(rows, places)[row]
    elif row in OTHERS:
        history = DINConfig.model_fields["history"].default
        said = OTHERS[row](rows, places, history, read_code_groups(folder / "codes")[1])
    elif row in TRAINED:
        said = _trained(folder, rows, places, settings, seed)
    else:
        said = _beside(folder / "dataset", split, row, seed)
    place.parent.mkdir(exist_ok=True)
    np.save(place, said)
    print(f"{dataset} {split} {row}, seed {seed}: auc {auc(rows.labels[places], said):.4f}", flush=True)


def _place(dataset: str, split: str, row: str, seed: int) -> Path:
    """Where predictions are kept, by what decides them."""
    decides = [FUXICTR, EPOCHS, BATCH, RATE] if row in BESIDE else TRAINED.get(row, CHOSEN)
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
    return prepared(dataset) / "predictions" / f"{split}-{row}-{seed}-{key}.npy"


def _trained(folder: Path, rows: Rows, places: NDArray[np.int64], settings: Row, seed: int) -> Said:
    with tempfile.TemporaryDirectory() as there:
        model = Path(there) / "model"
        stage("finetune", folder / "dataset", model, folder / "codes", settings=settings, seed=seed)
        return predict(load_recommender(model, "cpu"), rows, places, Run("predict", device="cpu", quiet=True))


def _beside(dataset: Path, split: str, row: str, seed: int) -> Said:
    """Ours or FuxiCTR's DIN after the same steps from the same weights."""
    rows = load_rows(dataset, split, RowsConfig(popularity=False))
    of_users = [one.key for one in rows.features.of("user")]
    torch.manual_seed(seed)
    model = DIN(resolve(DINConfig, {**FUXICTR, "without": ["codes", *of_users]}), row_space(dataset, rows, {}))
    known, asked = rows.of(TRAIN, "click"), rows.of(TEST, "click")
    batches = RowBatches(rows, known, BATCH, model.config.history, "click", seed)
    learnt = [known[indices] for epoch in range(EPOCHS) for indices in batches.plan(epoch)]
    if row == "fuxictr_din":
        with tempfile.TemporaryDirectory() as there:
            places = np.concatenate([*learnt, asked])
            write_case(Path(there), model, rows, places, BATCH, RATE, len(asked))
            return np.array(_peer(Path(there))["after"], np.float32)
    steps = model.train().steps(TrainingConfig(weight_decay=0.0, clip_norm=10.0), seed)
    for places in learnt:
        steps.step(collate(rows, places, model.config.history, "click"), RATE)
    return predict(model, rows, asked, Run("predict", device="cpu", quiet=True))


def _peer(folder: Path) -> dict[str, Any]:
    command = [str(Path(os.environ["FUXICTR"]) / "bin" / "python"), str(Path(__file__).with_name("_ctr_peer.py"))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True, env=environment)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def table(dataset: str, split: str, names: Sequence[str], seeds: int) -> None:
    """Means over seeds, in brackets the 95 % interval over users, and how far ahead of the item's rate, as Markdown."""
    rows = load_rows(prepared(dataset) / "dataset", split, RowsConfig(popularity=False))
    places = rows.of(TEST, "click")
    labels, of = np.asarray(rows.labels[places]), parts(rows, places)
    found: dict[str, Resampled] = {}
    for name in names:
        paths = [_place(dataset, split, name, seed) for seed in range(seeds)]
        if there := [path for path in paths if path.is_file()]:
            found[name] = Resampled(np.asarray(rows.users[places]), labels, np.stack([np.load(path) for path in there]))
    print(f"\n{dataset}, {split}: {len(places):,} test rows, {of['new_users'].sum():,} of users new to training")
    print("| | seeds | auc (95 %) | of known users | of new users | user_auc (95 %) | log_loss (95 %) | auc, ahead |")
    print("|---|---|---|---|---|---|---|---|")
    for name, one in found.items():
        whole, *others = one.cells()
        known, new = (
            f"{np.mean([auc(labels[of[part]], predicted_E[of[part]]) for predicted_E in one.predicted_KE]):.4f}"
            if of[part].any()
            else ""
            for part in ("known_users", "new_users")
        )
        ahead = one.ahead_of(found["item_rate"]) if "item_rate" in found else ""
        cells = [name, str(len(one.predicted_KE)), whole, known, new, *others, ahead]
        print(f"| {' | '.join(cells)} |".replace("0.", "."), flush=True)
    for name, other in COMPARED:
        if name in found and other in found:
            print(f"{name} less {other}, auc: {found[name].ahead_of(found[other])}".replace("0.", "."), flush=True)


class Resampled:
    """AUC, user AUC and log loss of a row of the table, and of resamples of its users.

    Args:
        users_E: Users of the test rows.
        labels_E: Their labels.
        predicted_KE: Predictions by seed.
    """

    def __init__(self, users_E: NDArray[np.int32], labels_E: NDArray[np.int8], predicted_KE: Said) -> None:
        self.predicted_KE = predicted_KE
        found = [_resampled(users_E, labels_E, predicted_E) for predicted_E in predicted_KE]
        self.means_3 = np.mean([means for means, _ in found], 0)
        self.drawn_3S = np.mean([drawn for _, drawn in found], 0)

    def cells(self) -> list[str]:
        """Each metric with its interval."""
        low_3, high_3 = np.quantile(self.drawn_3S, [0.025, 0.975], axis=1)
        return [
            f"{mean:.4f} ({low:.4f} to {high:.4f})" for mean, low, high in zip(self.means_3, low_3, high_3, strict=True)
        ]

    def ahead_of(self, other: "Resampled") -> str:
        """How much higher the AUC is, with the interval of the difference over the same resamples."""
        low, high = np.quantile(self.drawn_3S[0] - other.drawn_3S[0], [0.025, 0.975])
        return f"{self.means_3[0] - other.means_3[0]:+.4f} ({low:+.4f} to {high:+.4f})"


def _resampled(users_E: NDArray[np.int32], labels_E: NDArray[np.int8], predicted_E: Said) -> tuple[list[float], Any]:
    """The three metrics, and [3, S] those of resamples: the same users for every model."""
    owner_E = np.unique(users_E, return_inverse=True)[1]
    counts_U = np.bincount(owner_E)
    n_users, rng = len(counts_U), np.random.default_rng(0)
    drawn_SU = np.stack([np.bincount(rng.integers(n_users, size=n_users), minlength=n_users) for _ in range(SAMPLES)])
    metrics_2U = np.array(
        [_of_a_user(labels_E[of], predicted_E[of]) for of in (owner_E == one for one in range(n_users))]
    ).T
    means_2S = []
    for values_U in metrics_2U:
        weights_SU = drawn_SU * (counts_U * np.isfinite(values_U))
        means_2S.append(weights_SU @ np.nan_to_num(values_U) / weights_SU.sum(1))
    aucs_S = resampled_aucs(users_E, labels_E, predicted_E, np.random.default_rng(0), SAMPLES)
    means = [auc(labels_E, predicted_E), user_auc(users_E, labels_E, predicted_E)[0], log_loss(labels_E, predicted_E)]
    return means, np.stack([aucs_S, *means_2S])


def _of_a_user(labels_E: NDArray[np.int8], predicted_E: Said) -> tuple[float, float]:
    return auc(labels_E, predicted_E), log_loss(labels_E, predicted_E)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
