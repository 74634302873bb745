"""Trains a tiny GRU4Rec in a process of its own and dies at a chunk: `gru4rec_killed.py FOLDER ENGINE STEP SIGNAL`."""

import os
import sys

import torch

from modalrec.recommenders.gru4rec import GRU4Rec
from modalrec.run import Run
from modalrec.training.loop import TrainingConfig, fit
from tests.recommenders.gru4rec_cases import build, small_sessions

DROPPED = {"dropout_p_embed": 0.2, "dropout_p_hidden": 0.3, "momentum": 0.3, "sample_store_size": 200}


def train(folder: str, engine: str, die_at: int = -1, signal: int = 0) -> GRU4Rec:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sessions = small_sessions()
    model = build(sessions.n_items, engine=engine, **DROPPED)
    batches = model.batches(sessions, 8, 0, augment=False)
    batches.chunk = 4
    make, chunks = batches.build, iter(range(10**6))

    def dying(epoch, step, indices):
        if next(chunks) == die_at:
            os.kill(os.getpid(), signal)
        return make(epoch, step, indices)

    batches.build = dying
    fit(
        model,
        batches,
        config=TrainingConfig(
            epochs=3, batch_size=8, learning_rate=0.05, schedule="constant", weight_decay=0, clip_norm=0
        ),
        run=Run("killed", device="cpu", checkpoints=folder, checkpoint_seconds=0, quiet=True),
        fingerprint="f" * 64,
        validate=lambda: {"ndcg_10": model.item_vectors.abs().sum().item()},
        monitor="ndcg_10",
    )
    return model


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
