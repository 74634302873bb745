"""Trains a tiny model in a process of its own and dies by a signal at a step: `python killed.py FOLDER STEP SIGNAL`."""

import os
import sys

import torch

from modalrec.recommenders.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from modalrec.run import Run
from modalrec.testing.recommenders import item_space, walks
from modalrec.training.loop import TrainingConfig, fit


def train(folder: str, die_at: int = -1, signal: int = 0) -> EncoderDecoder:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = EncoderDecoder(EncoderDecoderConfig(width=16, heads=2, dropout=0.3, history=8), item_space())
    batches = model.batches(walks().train(), 64, 0, augment=True)
    build, steps = batches.build, iter(range(10**6))

    def dying(epoch, step, indices):
        if next(steps) == die_at:
            os.kill(os.getpid(), signal)
        return build(epoch, step, indices)

    batches.build = dying
    fit(
        model,
        batches,
        config=TrainingConfig(epochs=3, batch_size=64, warmup_steps=3),
        run=Run("killed", device="cpu", checkpoints=folder, checkpoint_seconds=0, quiet=True),
        fingerprint="f" * 64,
        validate=lambda: {"ndcg_10": model.form.encoder.positions.abs().sum().item()},
        monitor="ndcg_10",
    )
    return model


if __name__ == "__main__":
    train(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
