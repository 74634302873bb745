"""Trains DLRM with its tables in one process, or spread over a team: `python -m tests.training.spread FOLDER`.

The leader leaves in FOLDER what came out of a whole run, of one that was interrupted after an epoch, and the model.
"""

import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from modalrec.recommenders import dlrm, save_recommender
from modalrec.run import Run
from modalrec.training.loop import TrainingConfig, fit
from tests.training.together import recommender

SETTINGS = {"embedding_decay": 0.0, "penalty": 0.01, "id_dropout": 0.1}
TRAINING = {"batch_size": 32, "accumulate": 2, "learning_rate": 3e-3, "clip_norm": 0.0, "schedule": "constant"}


def train(placement: str, *epochs: int, checkpoints: Path | None = None) -> tuple[Any, list[dict[str, float]]]:
    """The model and what was said of its last run, of one that is resumed where several numbers of epochs are given."""
    torch.set_num_threads(1)
    for count in epochs:
        model, batches = recommender("dlrm", placement=placement, **SETTINGS)
        rows = batches.build(0, 0, batches.plan(0)[0])

        def measured(model: Any = model, rows: Any = rows) -> dict[str, float]:
            return {"neg_rmse": -float((model.predict(rows) - rows["label"]).square().mean().sqrt())}

        run = Run("spread", device="cpu", quiet=True, checkpoints=checkpoints and str(checkpoints))
        config = TrainingConfig(epochs=count, **TRAINING)
        options = {"config": config, "run": run, "fingerprint": "f" * 64}
        with mock.patch.object(dlrm, "LARGE", 5):
            history = fit(model, batches, validate=measured, monitor="neg_rmse", **options)
    return model, history


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    whole, history = train("torchrec", 2)
    resumed, later = train("torchrec", 1, 2, checkpoints=folder / "checkpoints")
    if os.environ["RANK"] == "0":
        states = {"whole": whole.state_dict(), "resumed": resumed.state_dict()}
        torch.save({**states, "history": history, "later": later}, folder / "found.pt")
        (folder / "model").mkdir()
        save_recommender(folder / "model", whole)
