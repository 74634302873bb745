"""The one training loop: quantizers and recommenders alike.

It plans an epoch, steps through its batches, validates, keeps the best weights, and can be killed at any moment: a
resumed run ends with the same bits on a CPU.
"""

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from modalrec.config import Config
from modalrec.errors import TrainingError
from modalrec.run import Run
from modalrec.training.batches import Batches
from modalrec.training.checkpoint import Checkpoints
from modalrec.training.groups import Group, GroupSteps
from modalrec.training.live import live_events
from modalrec.training.spread import HasSpreadTables
from modalrec.training.steps import Done, GradientSteps, HasSteps, Steps
from modalrec.training.team import Team, refuse_uneven

Validate = Callable[[], dict[str, float]]

LOWEST_RATE = 1e-6
"""The schedule `plateau` goes no further down."""
SMALL = 5_000_000
"""Parameters below which a second thread slows training down (19 steps/s with one, 13 with two, at 300,000)."""


class TrainingConfig(Config):
    """How to train.

    Attributes:
        epochs: Passes over the data; 0 leaves the model as it was initialised.
        batch_size: Rows of a batch.
        learning_rate: Peak rate of the optimizer, AdamW unless the model brings its own.
        weight_decay: Decoupled decay of matrices; vectors (biases, norms) never decay.
        warmup_steps: Steps of linear warm-up.
        schedule: `cosine` falls to zero over the epochs, `constant` stays, `plateau` falls tenfold after each epoch
            without a better validation, though not below 1e-6 (FuxiCTR's).
        clip_norm: Gradients are scaled down to this global norm; 0 does not clip.
        patience: Stop after so many epochs without a better validation; 0 never stops early.
        accumulate: Batches of an optimizer step, which takes the mean of their gradients. The processes of a `torchrun`
            share them out, so their number must divide this one; the result depends on this one alone.
    """

    epochs: int = Field(10, ge=0)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    clip_norm: float = Field(1.0, ge=0)
    patience: int = Field(0, ge=0)
    accumulate: int = Field(1, ge=1)


@dataclass
class State:
    """Where training stands, besides model and optimizer."""

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    weight: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = 0
    worse_epochs: int = 0
    best_weights: dict[str, Tensor] | None = None


@dataclass
class Pace:
    """What was learnt from in an epoch and how long it took; no part of a checkpoint, which holds no clock."""

    batches: int = 0
    events: int = 0
    seconds: float = 0.0

    def numbers(self) -> dict[str, float]:
        """By name, for `Manifest.cost`."""
        seconds = max(self.seconds, 1e-9)
        found = {"seconds_per_epoch": round(seconds, 3), "batches_per_second": round(self.batches / seconds, 1)}
        return found | ({"events_per_second": round(self.events / seconds, 1)} if self.events else {})


def fit(
    model: nn.Module,
    batches: Batches,
    *,
    config: TrainingConfig,
    run: Run,
    fingerprint: str,
    validate: Validate | None = None,
    monitor: str = "",
    speed: dict[str, float] | None = None,
) -> list[dict[str, float]]:
    """Trains a model in place; under `torchrun` together with the other processes, see `training.groups`.

    Args:
        model: Has `loss(batch) -> {"loss": ..., ...}`, or brings its own steps (`training.steps`).
        batches: The training data.
        config: Epochs, optimizer, schedule.
        run: Seed, device, progress, checkpoints.
        fingerprint: Of this training run; a checkpoint with the same one is resumed.
        validate: Measures the model after each epoch, on validation data.
        monitor: The metric of `validate` to maximise; the weights of its best epoch stay in the model.
        speed: Takes `seconds_per_epoch`, `batches_per_second` and, where the model counts them, `events_per_second`, of
            training alone, in the last epoch.

    Returns:
        One entry per epoch: `epoch` (from 1), the mean of every loss, the validation metrics.

    Raises:
        TrainingError: A loss or gradient is not finite, or memory does not suffice; nothing of that step is kept.
        UpstreamError: Another run is at work on the same checkpoints.
        ConfigError: The processes cannot share out the batches of a step.
        SystemExit: SIGTERM came; a checkpoint of that step was saved before, and the exit code is 143.
    """
    device = run.torch_device()
    team = Team.join(device)
    refuse_uneven(team, config.accumulate)
    if isinstance(model, HasSpreadTables):
        model.spread(config, team)
    model.to(device)
    if config.accumulate > 1:
        batches = batches.apart(config.accumulate)
    steps = _steps(model, config, run, team)
    checkpoints = Checkpoints(run, fingerprint)
    total = config.epochs * math.ceil(len(batches.plan(0)) / config.accumulate)
    with (
        _alone(checkpoints, model, steps, run, team) as state,
        run.progress("training", total) as progress,
        live_events(run, fingerprint, state.epoch, team.leads) as show,
        _terminated() as stop,
        _threads(model, device),
    ):
        saved = time.monotonic()
        plan = batches.plan(state.epoch)
        progress.start_at(state.global_step)
        while not _finished(state, config):
            model.train()
            pace = Pace()
            for step in range(state.step, math.ceil(len(plan) / config.accumulate)):
                begin = time.monotonic()
                with _named(state, step, len(plan), config, checkpoints):
                    batch = _batch(batches, plan, state.epoch, step, config, device)
                    done = steps.step(batch, _rate(config, state, total))
                _count(done, state)
                progress.advance(epoch=state.epoch + 1, loss=done.losses["loss"])
                state.step = step + 1
                pace.batches += done.batches
                pace.events += done.events
                pace.seconds += time.monotonic() - begin
                stopped = team.any(stop.is_set())
                if stopped or team.any(team.leads and time.monotonic() - saved > run.checkpoint_seconds):
                    _save(checkpoints, model, steps, state, team)
                    saved = time.monotonic()
                if stopped:
                    raise SystemExit(143)
            steps.bring_together()
            said = _end_epoch(model, state, validate, monitor, team)
            show(state.history[-1])
            run.say(f"{said}  {pace.seconds:.1f} s, " + _rates(pace))
            if speed is not None:
                speed |= pace.numbers()
            due = time.monotonic() - saved > min(run.checkpoint_seconds, 5) or _finished(state, config)
            if team.any(team.leads and due):
                _save(checkpoints, model, steps, state, team)
                saved = time.monotonic()
            plan = batches.plan(state.epoch)
    steps.finish()
    if state.best_weights is not None:
        model.load_state_dict(state.best_weights)
    model.eval()
    return state.history


def _steps(model: nn.Module, config: TrainingConfig, run: Run, team: Team) -> Steps:
    if isinstance(model, HasSteps):
        return model.steps(config, run.seed, team)
    if config.accumulate > 1:
        return GroupSteps(model, config.weight_decay, config.clip_norm, run.seed, team)
    return GradientSteps(model, config.weight_decay, config.clip_norm)


def _batch(batches: Batches, plan: Sequence[Any], epoch: int, step: int, config: TrainingConfig, device: str) -> Any:
    """What a step learns from: a batch, or a group whose batches are built where they are needed."""
    first = step * config.accumulate

    def build(place: int) -> Any:
        return _to(batches.build(epoch, place, plan[place]), device)

    if config.accumulate == 1:
        return build(first)
    return Group(epoch, first, min(config.accumulate, len(plan) - first), build)


@contextmanager
def _named(state: State, step: int, batches: int, config: TrainingConfig, checkpoints: Checkpoints) -> Iterator[None]:
    """Says of an error in a step where it happened, what was kept, and what may help."""
    try:
        yield
        return
    except TrainingError as error:
        what = (
            f"{error}; lower training.learning_rate ({config.learning_rate:g}), or look for extreme values in the input"
        )
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        what = f"out of memory; lower training.batch_size ({config.batch_size}), the model's width or its history"
    first = step * config.accumulate + 1
    place = f"batch {first}" if config.accumulate == 1 else f"batches from {first} on"
    raise TrainingError(
        f"epoch {state.epoch + 1}, step {step + 1} ({place} of {batches}): {what}. {checkpoints.last()}"
    )


def _is_memory(error: Exception) -> bool:
    """PyTorch raises an error of its own on a GPU, and a plain RuntimeError on a CPU."""
    known = ("DefaultCPUAllocator", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in str(error) for part in known)


def _count(done: Done, state: State) -> None:
    for name, value in done.losses.items():
        state.sums[name] = state.sums.get(name, 0.0) + value * done.weight
    state.weight += done.weight
    state.global_step += 1


def _end_epoch(model: nn.Module, state: State, validate: Validate | None, monitor: str, team: Team) -> str:
    """Closes an epoch and returns what is to be said of it."""
    entry: dict[str, float] = {"epoch": state.epoch + 1}
    entry |= {name: total / state.weight for name, total in state.sums.items()}
    said = f"epoch {state.epoch + 1}: loss {entry['loss']:.4f}"
    if validate is not None:
        model.eval()
        entry |= team.tell(validate() if team.leads else None)
        if entry[monitor] > state.best:
            state.best, state.best_epoch = entry[monitor], state.epoch + 1
            state.best_weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        else:
            state.worse_epochs += 1
        said += f"  {monitor} {entry[monitor]:.4f} (best {state.best:.4f})"
    state.history.append(entry)
    state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
    state.weight = 0.0
    return said


def _rates(pace: Pace) -> str:
    numbers = pace.numbers()
    events = f", {numbers['events_per_second']:,.0f} events/s" if pace.events else ""
    return f"{numbers['batches_per_second']:,.0f} batches/s{events}"


def _finished(state: State, config: TrainingConfig) -> bool:
    waited = state.epoch - state.best_epoch
    stopped = config.patience > 0 and state.best_weights is not None and waited >= config.patience
    return state.epoch >= config.epochs or stopped


def _rate(config: TrainingConfig, state: State, total: int) -> float:
    step = state.global_step
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "plateau":
        return max(config.learning_rate * 0.1**state.worse_epochs, min(config.learning_rate, LOWEST_RATE))
    share = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def _save(checkpoints: Checkpoints, model: nn.Module, steps: Steps, state: State, team: Team) -> None:
    steps.bring_together()
    if not team.leads:
        return
    rng = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        rng["cuda"] = torch.cuda.get_rng_state()
    checkpoints.save(
        state.global_step,
        state.epoch,
        {"model": model.state_dict(), "steps": steps.state_dict(), "rng": rng, "state": dict(vars(state))},
    )


@contextmanager
def _alone(checkpoints: Checkpoints, model: nn.Module, steps: Steps, run: Run, team: Team) -> Iterator[State]:
    """Holds the checkpoints against other runs, and gives the state to go on from."""
    with checkpoints.alone() if team.leads else nullcontext():
        yield _restore(checkpoints, model, steps, run, team)


def _restore(checkpoints: Checkpoints, model: nn.Module, steps: Steps, run: Run, team: Team) -> State:
    found = team.tell(checkpoints.load() if team.leads else None)
    if found is None:
        return State()
    model.load_state_dict(found["model"])
    steps.load_state_dict(found["steps"])
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
