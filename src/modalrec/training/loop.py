"""The one training loop: quantizers and recommenders alike.

It plans an epoch, steps through its batches, validates, keeps the best weights, and can be killed at any moment: a
resumed run ends with the same bits on a CPU.
"""

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from modalrec.config import Config
from modalrec.errors import TrainingError
from modalrec.run import Progress, Run
from modalrec.training.batches import Batches
from modalrec.training.checkpoint import Checkpoints

Validate = Callable[[], dict[str, float]]

SMALL = 5_000_000
"""Parameters below which a second thread slows training down (19 steps/s with one, 13 with two, at 300,000)."""


class TrainingConfig(Config):
    """How to train.

    Attributes:
        epochs: Passes over the data; 0 leaves the model as it was initialised.
        batch_size: Rows of a batch.
        learning_rate: Peak rate of AdamW.
        weight_decay: Decoupled decay of matrices; vectors (biases, norms) never decay.
        warmup_steps: Steps of linear warm-up.
        schedule: `cosine` falls to zero over the epochs, `constant` stays.
        clip_norm: Gradients are scaled down to this global norm; 0 does not clip.
        patience: Stop after so many epochs without a better validation; 0 never stops early.
    """

    epochs: int = Field(10, ge=0)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float = Field(1.0, ge=0)
    patience: int = Field(0, ge=0)


@dataclass
class State:
    """Where training stands, besides model and optimizer."""

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None


def fit(
    model: nn.Module,
    batches: Batches,
    *,
    config: TrainingConfig,
    run: Run,
    fingerprint: str,
    validate: Validate | None = None,
    monitor: str = "",
) -> list[dict[str, float]]:
    """Trains a model in place.

    Args:
        model: Has `loss(batch) -> {"loss": ..., ...}`.
        batches: The training data.
        config: Epochs, optimizer, schedule.
        run: Seed, device, progress, checkpoints.
        fingerprint: Of this training run; a checkpoint with the same one is resumed.
        validate: Measures the model after each epoch, on validation data.
        monitor: The metric of `validate` to maximise; the weights of its best epoch stay in the model.

    Returns:
        One entry per epoch: `epoch` (from 1), the mean of every loss, the validation metrics.

    Raises:
        TrainingError: A loss or gradient is not finite; nothing of that step is kept.
    """
    device = run.torch_device()
    model.to(device)
    optimizer = _optimizer(model, config)
    checkpoints = Checkpoints(run, fingerprint)
    state = _restore(checkpoints, model, optimizer, run)
    saved = time.monotonic()
    total = config.epochs * len(batches.plan(0))
    plan = batches.plan(state.epoch)
    with run.progress("training", total) as progress, _terminated() as stop, _threads(model, device):
        progress.start_at(state.global_step)
        while not _finished(state, config):
            model.train()
            for step in range(state.step, len(plan)):
                batch = _to(batches.build(state.epoch, step, plan[step]), device)
                _set_rate(optimizer, _rate(config, state.global_step, total))
                _train_step(model, optimizer, batch, config, state, progress)
                state.step = step + 1
                if stop.is_set() or time.monotonic() - saved > run.checkpoint_seconds:
                    _save(checkpoints, model, optimizer, state)
                    saved = time.monotonic()
                if stop.is_set():
                    raise SystemExit(143)
            _end_epoch(model, state, len(plan), validate, monitor, run)
            if time.monotonic() - saved > min(run.checkpoint_seconds, 5) or _finished(state, config):
                _save(checkpoints, model, optimizer, state)
                saved = time.monotonic()
            plan = batches.plan(state.epoch)
    if state.best_weights is not None:
        model.load_state_dict(state.best_weights)
    model.eval()
    return state.history


def _train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    config: TrainingConfig,
    state: State,
    shown: Progress,
) -> None:
    losses: dict[str, Tensor] = model.loss(batch)  # type: ignore[operator]
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or math.inf)
    values = {name: value.item() for name, value in losses.items()}
    if not math.isfinite(values["loss"]) or not math.isfinite(norm.item()):
        raise TrainingError(
            f"epoch {state.epoch + 1}, step {state.step + 1}: loss {values['loss']:.4g}, gradient norm "
            f"{norm.item():.4g}; lower training.learning_rate ({config.learning_rate:g}), or look for extreme values "
            "in the input"
        )
    optimizer.step()
    for name, value in values.items():
        state.sums[name] = state.sums.get(name, 0.0) + value
    state.global_step += 1
    shown.advance(epoch=state.epoch + 1, loss=values["loss"])


def _end_epoch(model: nn.Module, state: State, steps: int, validate: Validate | None, monitor: str, run: Run) -> None:
    entry: dict[str, float] = {"epoch": state.epoch + 1}
    entry |= {name: total / steps for name, total in state.sums.items()}
    if validate is not None:
        model.eval()
        entry |= validate()
        if entry[monitor] > state.best:
            state.best, state.best_epoch = entry[monitor], state.epoch + 1
            state.best_weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        run.say(
            f"epoch {state.epoch + 1}: loss {entry['loss']:.4f}  {monitor} {entry[monitor]:.4f} (best {state.best:.4f})"
        )
    state.history.append(entry)
    state.epoch, state.step, state.sums = state.epoch + 1, 0, {}


def _finished(state: State, config: TrainingConfig) -> bool:
    waited = state.epoch - state.best_epoch
    stopped = config.patience > 0 and state.best_weights is not None and waited >= config.patience
    return state.epoch >= config.epochs or stopped


def _optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, fused=True)


def _rate(config: TrainingConfig, step: int, total: int) -> float:
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    share = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _save(checkpoints: Checkpoints, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    rng = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        rng["cuda"] = torch.cuda.get_rng_state()
    checkpoints.save(
        state.global_step,
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng, "state": dict(vars(state))},
    )


def _restore(checkpoints: Checkpoints, model: nn.Module, optimizer: torch.optim.Optimizer, run: Run) -> State:
    found = checkpoints.load()
    if found is None:
        return State()
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])
    torch.set_rng_state(found["rng"]["cpu"])
    if torch.cuda.is_available() and "cuda" in found["rng"]:
        torch.cuda.set_rng_state(found["rng"]["cuda"])
    state = State(**copy.copy(found["state"]))
    run.say(f"resuming at epoch {state.epoch + 1}, step {state.step}")
    return state


def _to(batch: Any, device: str) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    return {name: value.to(device) for name, value in batch.items()}


@contextmanager
def _threads(model: nn.Module, device: str) -> Iterator[None]:
    """One thread for a small model on a CPU: waiting for a second one costs more than it does."""
    before = torch.get_num_threads()
    if device == "cpu" and sum(parameter.numel() for parameter in model.parameters()) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _terminated() -> Iterator[threading.Event]:
    """An event that SIGTERM (a spot node being reclaimed) sets, so that the loop can save before it ends."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
