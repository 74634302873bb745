"""Embeds texts in a process of its own and dies at a batch: `python killed_embed.py DATASET OUT SHARDS BATCH`."""

import os
import signal
import sys
from pathlib import Path

import torch

from modalrec.encoders.minilm import MiniLM
from modalrec.run import Run
from modalrec.stages.embed_text import Config, embed_text
from modalrec.training import checkpoint

BATCHES = 9


def run_stage(dataset: str, out: str, checkpoints: str, die_at: int = -1, seconds: float = 0) -> list[int]:
    """Runs the stage, a shard every so many seconds; gives the sizes of the batches that were encoded."""
    torch.set_num_threads(1)
    # The sources may be edited between the two processes; that shards of another program are left is tested elsewhere.
    version, checkpoint.code_version = checkpoint.code_version, lambda: "one"
    encode, sizes = MiniLM.encode_texts, []

    def dying(self, texts):
        if len(sizes) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        sizes.append(len(texts))
        return encode(self, texts)

    MiniLM.encode_texts = dying
    run = Run("embed_text", device="cpu", checkpoints=checkpoints, checkpoint_seconds=seconds, quiet=True)
    try:
        embed_text(Path(dataset), Path(out), config=Config(batch_size=7), run=run)
    finally:
        MiniLM.encode_texts, checkpoint.code_version = encode, version
    return sizes


if __name__ == "__main__":
    run_stage(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
