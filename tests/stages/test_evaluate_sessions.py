"""The stage `evaluate` by GRU4Rec's protocol: every next item of test sessions, unseen items dropped, several tests."""

import json
from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts.schemas import RANKS, read_table
from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST
from modalrec.errors import ConfigError
from modalrec.stages import load_stage
from tests.raw import write_sessions
from tests.stages import trained

MODEL = {"name": "gru4rec", "layers": [8], "n_sample": 8}
PROTOCOL = {"split": "sessions", "targets": "every", "unseen_items": "drop", "mask_seen": False}
SETTINGS = PROTOCOL | {"list_length": 5, "cutoffs": [1, 5], "gallery_users": 4, "ties": "report"}
TRAIN = [(session, f"i{(session + step) % 7}", 100 * session + step) for session in range(60) for step in range(4)]
NEW = "never trained on"


def clicks(first: int, sessions: list[list[str]]) -> list[tuple[object, ...]]:
    return [
        (first + n, item, 100 * (first + n) + at) for n, items in enumerate(sessions) for at, item in enumerate(items)
    ]


DAYS = {
    "day1": [["i0", "i1", "i2", "i3"], ["i4", NEW, "i5"], [NEW, "i1"], ["i2", "i3"]],
    "day2": [["i6", "i0"], ["i1", "i2", NEW]],
}


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset of prepared files with two test sets, without their unseen items, and a model."""
    folder = tmp_path_factory.mktemp("sessions")
    write_sessions(folder / "raw", TRAIN[:200], "a_train.tsv")
    write_sessions(folder / "raw", TRAIN[200:], "a_valid.tsv")
    for number, (day, sessions) in enumerate(DAYS.items()):
        write_sessions(folder / "raw", clicks(1000 + 100 * number, sessions), f"{day}.tsv")
    source = {"name": "sessions", "train": "a_train.tsv", "valid": "a_valid.tsv", "test": ["day1.tsv", "day2.tsv"]}
    settings = {"source": source, "splits": ["sessions"], "min_user_events": 1, "min_item_events": 1}
    trained.run_stage("ingest", settings, source=folder / "raw", dataset=folder / "dataset")
    chosen = {"recommender": MODEL, "training": {"epochs": 1, "batch_size": 8}} | PROTOCOL | {"monitor": "mrr_20"}
    trained.run_stage("finetune", chosen, dataset=folder / "dataset", model=folder / "model")
    return {"dataset": folder / "dataset", "model": folder / "model"}


def test_every_next_item_of_every_test_set_is_ranked(edges: dict[str, Path], tmp_path: Path) -> None:
    settings = SETTINGS | {"test_sets": ["all"], "primary_metric": "mrr_5"}
    metrics = trained.run_stage("evaluate", settings, **edges, evaluation=tmp_path / "e")
    for part, split in (("", "sessions"), ("day2_", "sessions_day2")):
        data = Sequences.load(edges["dataset"], split).known()
        targets = data.targets(TEST, every=True)
        assert metrics[f"{part}predictions"] == len(targets)
        assert metrics[f"{part}users"] == len(np.unique(targets.users))
        for row in ("", "popularity_", "item_knn_"):
            assert 0 <= metrics[f"{part}{row}recall_5_low"] <= metrics[f"{part}{row}recall_5"] <= 1
        row = part.removesuffix("_") or "model"
        ranks = read_table(tmp_path / "e" / "ranks" / f"{row}.parquet", RANKS).to_pandas()
        assert ranks["user"].tolist() == targets.users.tolist()
        assert ranks["position"].tolist() == (targets.ends - data.offsets[targets.users]).tolist()
        # Ranks by all scores, as the model is exact: none is beyond the catalogue, as that of a list's miss is.
        assert (ranks["greater"] + ranks["equal"]).max() < data.n_items
        assert ((ranks["greater"] + ranks["equal"]) < 5).mean() == pytest.approx(metrics[f"{part}recall_5"])
    assert metrics["primary_metric"] == metrics["mrr_5"]
    assert metrics["mrr_5_conservative"] == metrics["mrr_5"] <= metrics["mrr_5_median"] <= metrics["mrr_5_standard"]
    html = (tmp_path / "e" / "report.html").read_text(encoding="utf-8")
    assert f"{metrics['predictions']:.0f} targets of {metrics['users']:.0f} sessions" in html
    assert "Sessions: day2" in html
    assert "On the further test set day2" in html


def test_unknown_test_sets_and_metrics_are_refused(edges: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'sessions_day3': the dataset has sessions_day2 beside sessions"):
        trained.run_stage("evaluate", SETTINGS | {"test_sets": ["sessions_day3"]}, **edges, evaluation=tmp_path / "e")
    with pytest.raises(
        ConfigError, match="primary_metric=mrr_20 is not measured with these cutoffs; did you mean mrr_"
    ):
        trained.run_stage("evaluate", SETTINGS | {"primary_metric": "mrr_20"}, **edges, evaluation=tmp_path / "e")


def test_a_final_model_knows_the_validation_events(edges: dict[str, Path], tmp_path: Path) -> None:
    """Baselines then count them too, and a model that knows less is no control."""
    chosen = {"recommender": MODEL, "training": {"epochs": 1, "batch_size": 8}, "fit_on": "train_and_valid"} | PROTOCOL
    final = tmp_path / "final"
    trained.run_stage("finetune", chosen, dataset=edges["dataset"], model=final)
    given = {"dataset": edges["dataset"], "model": final}
    with pytest.raises(ConfigError, match="with fit_on=train, the headline with fit_on=train_and_valid"):
        trained.run_stage("evaluate", SETTINGS, **given, scratch=edges["model"], evaluation=tmp_path / "e")
    metrics = trained.run_stage("evaluate", SETTINGS, **given, evaluation=tmp_path / "e")
    assert metrics["dropped_events"] == metrics["dropped_sessions"] == 0
    assert json.loads((tmp_path / "e" / "metrics.json").read_bytes())["predictions"] == 5


@pytest.mark.parametrize("tie_mode", ["conservative", "standard", "median", "tiebreaking"])
def test_the_headline_is_in_the_chosen_tie_mode(tie_mode: str, edges: dict[str, Path], tmp_path: Path) -> None:
    settings = SETTINGS | {"tie_mode": tie_mode, "baselines": ["popularity"]}
    metrics = trained.run_stage("evaluate", settings, **edges, evaluation=tmp_path / "e")
    assert metrics["recall_5"] == metrics[f"recall_5_{tie_mode}"]
    assert metrics["mrr_5"] == metrics[f"mrr_5_{tie_mode}"]
    assert (
        f"ties are {'broken' if tie_mode == 'tiebreaking' else tie_mode}"
        in (tmp_path / "e" / "report.html").read_text()
    )


def test_a_shuffled_control_needs_one_target_a_user(edges: dict[str, Path], tmp_path: Path) -> None:
    chosen = {"recommender": MODEL, "training": {"epochs": 1}, "shuffle_histories": True} | PROTOCOL
    trained.run_stage("finetune", chosen, dataset=edges["dataset"], model=tmp_path / "mixed")
    with pytest.raises(ConfigError, match="give the control with targets=last"):
        trained.run_stage("evaluate", SETTINGS, **edges, shuffled=tmp_path / "mixed", evaluation=tmp_path / "e")


def test_splits_are_known_by_name() -> None:
    config = load_stage("evaluate")[1]
    with pytest.raises(ValueError, match="sessions"):
        config.model_validate({"split": "session"})
