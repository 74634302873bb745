"""RecBole and RecTools, driven through their public interfaces by the interpreter that they are installed for.

`python _sequential_peers.py NAME FOLDER` reads `FOLDER/sessions/sessions.inter`, trains for a few steps, ranks the last
event of every session, and prints one line of JSON (`Clock.report`). Nothing of modalrec is imported here. Each library
has its own defaults, its batch size and dropout among them, but for what `sequential.py` says of the models.

What is done to them from outside: RecBole reads its options from `sys.argv`, so ours are taken out of it; and its
training is ended by an exception after the measured steps, as it knows whole epochs alone.
"""

import json
import logging
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

WARM_UP = 1
"""Steps before the clock starts."""
HISTORY, HIDDEN, LAYERS, HEADS, NEGATIVES, LIST = 50, 64, 2, 2, 256, 20


class Measured(Exception):
    """All measured steps are done."""


class Clock:
    """Counts targets between the begin of the first measured step and the begin of the one after the last."""

    def __init__(self, steps: int) -> None:
        self.steps, self.step, self.targets, self.begin, self.seconds = steps, 0, 0, 0.0, 0.0
        self.losses: list[float] = []
        self.targets_per_epoch = 0

    def starts(self, targets: int) -> bool:
        """A step on so many targets is about to begin; whether all is measured."""
        now = time.process_time()
        if self.step == WARM_UP:
            self.begin = now
        if self.step == WARM_UP + self.steps:
            self.seconds = now - self.begin
            return True
        self.targets += targets if self.step >= WARM_UP else 0
        self.step += 1
        return False

    def report(self, users: int, ranking_seconds: float) -> dict[str, Any]:
        """What is printed."""
        return {
            "targets": self.targets,
            "seconds": self.seconds,
            "first_loss": self.losses[0],
            "last_loss": self.losses[-1],
            "targets_per_epoch": self.targets_per_epoch,
            "users": users,
            "ranking_seconds": ranking_seconds,
        }


def main() -> None:
    """Measures one model."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    del sys.argv[1:]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    library, model, steps = MEASURED[name]
    print(json.dumps(library(folder, model, Clock(steps))))


def recbole(folder: Path, model_name: str, clock: Clock) -> dict[str, Any]:
    """RecBole's trainer on one target a row, each with its whole history before it, and its full-ranking evaluator."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    settings = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "use_gpu": False,
        "show_progress": False,
        "epochs": 1,
        "MAX_ITEM_LIST_LENGTH": HISTORY,
        "hidden_size": HIDDEN,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
        "metrics": ["Recall", "MRR", "NDCG"],
        "topk": [10, LIST],
    }
    if model_name == "SASRec":
        settings |= {"n_layers": LAYERS, "n_heads": HEADS}
    config = Config(model=model_name, dataset="sessions", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train, _, test = data_preparation(config, create_dataset(config))
    model = get_model(config["model"])(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    plain = model.calculate_loss

    def calculate_loss(interaction: Any) -> torch.Tensor:
        if clock.starts(len(interaction)):
            raise Measured
        loss: torch.Tensor = plain(interaction)
        clock.losses.append(loss.item())
        return loss

    model.calculate_loss = calculate_loss
    clock.targets_per_epoch = len(train.dataset)
    with suppress(Measured):
        trainer.fit(train, saved=False, verbose=False)
    begin = time.process_time()
    trainer.evaluate(test, load_best_model=False)
    return clock.report(len(test.dataset), time.process_time() - begin)


def rectools(folder: Path, loss: str, clock: Clock) -> dict[str, Any]:
    """RecTools' model with a trainer that has a clock, and its recommendations."""
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    events = pd.read_csv(folder / "sessions" / "sessions.inter", sep="\t")
    events.columns = [Columns.User, Columns.Item, Columns.Datetime]
    events[Columns.Datetime] = pd.to_datetime(events[Columns.Datetime], unit="s")
    events[Columns.Weight] = 1
    left = events.groupby(Columns.User).cumcount(ascending=False)
    model = SASRecModel(
        n_blocks=LAYERS,
        n_heads=HEADS,
        n_factors=HIDDEN,
        session_max_len=HISTORY,
        loss=loss,
        n_negatives=NEGATIVES,
        recommend_torch_device="cpu",
        get_trainer_func=lambda: timed_trainer(clock),
    )
    model.fit(Dataset.construct(events[left >= 2]))
    users = events[Columns.User].unique()
    dataset = Dataset.construct(events[left >= 1])
    begin = time.process_time()
    model.recommend(users, dataset, k=LIST, filter_viewed=False)
    return clock.report(len(users), time.process_time() - begin)


def timed_trainer(clock: Clock) -> Any:
    """RecTools' own trainer, but for the number of steps and the clock."""
    from pytorch_lightning import Callback, Trainer

    class Timing(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            clock.targets_per_epoch = sum(len(session) - 1 for session in trainer.train_dataloader.dataset.sessions)

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            clock.starts(int((batch["y"] != 0).sum()))

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            if clock.step <= WARM_UP + clock.steps and not clock.seconds:
                clock.losses.append(outputs["loss"].item())

    return Trainer(
        max_steps=WARM_UP + clock.steps + 1,
        callbacks=[Timing()],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        enable_checkpointing=False,
        devices=1,
    )


MEASURED = {
    "RecBole SASRec, softmax": (recbole, "SASRec", 4),
    "RecBole GRU4Rec, softmax": (recbole, "GRU4Rec", 6),
    "RecTools SASRec, softmax": (rectools, "softmax", 6),
    "RecTools SASRec, sampled softmax": (rectools, "sampled_softmax", 12),
}
"""Library, model or loss, and measured steps of the library's batch size."""


if __name__ == "__main__":
    main()
