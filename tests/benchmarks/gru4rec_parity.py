"""GRU4Rec's quality beside the authors' code on yoochoose-clicks-100k, five seeds, conservative ties.

The stages as a user runs them: ingest of the prepared files, finetune and evaluate with the preset rsc15. The authors'
figures were recorded once, from their PyTorch code with the settings of its README for RSC15, one run.
"""

import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from modalrec.config import load_preset, resolve
from modalrec.run import Run
from modalrec.stages import load_stage
from tests.raw import ROOT

AUTHORS = {
    "recall_5": 0.4911,
    "recall_10": 0.5861,
    "recall_20": 0.6674,
    "mrr_5": 0.3242,
    "mrr_10": 0.3371,
    "mrr_20": 0.3427,
}
SEEDS = range(5)
SOURCE = {
    "name": "sessions",
    "train": "yoochoose-clicks-100k_train_full.txt",
    "test": ["yoochoose-clicks-100k_test.txt"],
}


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table."""
    raw = Path(os.environ.get("MODALREC_DATA", ROOT.parent / "shared" / "data")) / "sessions"
    if not raw.is_dir():
        print("skipped: set MODALREC_DATA to the folder that holds sessions/yoochoose-clicks-100k_*.txt")
        return
    with tempfile.TemporaryDirectory() as folder:
        runs = [measure(Path(folder) / str(seed), raw, seed) for seed in SEEDS]
    print(f"{'':<10} {'authors':>8} {'ours':>8} {'sd':>7} {'difference':>10}")
    for name, theirs in AUTHORS.items():
        values = [run[name] for run in runs]
        mean = statistics.mean(values)
        print(f"{name:<10} {theirs:>8.4f} {mean:>8.4f} {statistics.stdev(values):>7.4f} {mean - theirs:>+10.4f}")


def measure(folder: Path, raw: Path, seed: int) -> dict[str, float]:
    """The metrics of one seed."""
    folder.mkdir(parents=True)
    ingest, finetune, evaluate = (load_stage(name) for name in ("ingest", "finetune", "evaluate"))
    dataset, model = folder / "dataset", folder / "model"
    settings = {"source": SOURCE, "session_split": {"by": "end"}}
    preset = load_preset("rsc15")
    ingest[0](raw, dataset, config=resolve(ingest[1], settings), run=Run("ingest", quiet=True))
    config = resolve(finetune[1], preset["finetune"])
    finetune[0](dataset, model, config=config, run=Run("finetune", seed=seed, device="cpu", quiet=True))
    config = resolve(evaluate[1], preset["evaluate"], {"baselines": [], "bootstrap_samples": 100})
    run = Run("evaluate", seed=seed, device="cpu", quiet=True)
    metrics: dict[str, float] = evaluate[0](dataset, model, folder / "evaluation", config=config, run=run)
    return metrics
