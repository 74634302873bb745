"""The gradients of whole steps of training, in both engines, against autograd in float64 of plain formulas."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modalrec.compiled import AVAILABLE
from modalrec.recommenders import _gru4rec_kernels as kernels
from modalrec.recommenders._gru4rec_fused import FusedSteps
from modalrec.recommenders.gru4rec import GRU4Rec
from modalrec.training.steps import Steps
from tests.recommenders.gru4rec_cases import BOTH, build, small_sessions, start, uniform
from tests.recommenders.gru4rec_plain import plain_bpr_max, plain_cell, plain_cross_entropy, plain_first

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="numba is not installed")

STEPS = {
    "bpr_max": {"loss": "bpr-max", "elu_param": 0.5, "bpreg": 1.3},
    "bpr_max_linear": {"loss": "bpr-max", "elu_param": 0.0, "layers": [10, 7]},
    "cross_entropy_logq": {"loss": "cross-entropy", "logq": 1.0, "sample_alpha": 0.6},
    "separate_three_layers": {"embedding": "separate", "embedding_size": 5, "layers": [9, 4, 8]},
    "without_samples": {"loss": "cross-entropy", "n_sample": 0},
    "momentum": {"loss": "bpr-max", "momentum": 0.6},
    "none": {"loss": "bpr-max", "embedding": "none"},
    "none_three_layers": {"loss": "cross-entropy", "embedding": "none", "layers": [9, 4, 8]},
    "content": {"content": "sum", "logq": 0.5},
    "content_separate": {"content": "sum", "embedding": "separate"},
}
TORCH_ONLY = {"none", "none_three_layers", "content", "content_separate"}
RUNS = [(name, engine) for name in STEPS for engine in BOTH if engine == "torch" or name not in TORCH_ONLY]


@pytest.mark.parametrize(("name", "engine"), RUNS)
def test_gradients_of_a_whole_step_are_autograds_in_float64(name: str, engine: str) -> None:
    """Of every parameter, in a step with carried and fresh lanes, after some steps of training."""
    compare_with_autograd(engine, 6, **STEPS[name])


@pytest.mark.parametrize("engine", BOTH)
def test_logq_corrects_exactly_the_targets_in_a_shrunken_batch(engine: str) -> None:
    """The authors' code takes the first `batch_size` columns for targets, samples among them once lanes are closed."""
    compare_with_autograd(engine, -2, loss="cross-entropy", logq=1.0, sample_alpha=0.4)


@pytest.mark.parametrize("engine", BOTH)
def test_losses_of_a_shrunken_batch_are_divided_by_the_configured_size(engine: str) -> None:
    compare_with_autograd(engine, -2, loss="bpr-max")


@pytest.mark.parametrize(("name", "engine"), [run for run in RUNS if run[0] != "without_samples"])
def test_dropout_on_embedding_and_hidden_state(name: str, engine: str) -> None:
    """Loss and gradients with the masks that the engine drew; the dropped state is what the next step goes on with."""
    compare_with_autograd(engine, 6, dropout_p_embed=0.3, dropout_p_hidden=0.4, **STEPS[name])


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("bptt", [2, 3])
def test_bptt_goes_back_exactly_n_steps(name: str, bptt: int) -> None:
    """One update for n steps; the state before the first of them is a constant."""
    compare_with_autograd("torch", 2, bptt=bptt, **STEPS[name])


def compare_with_autograd(engine: str, at: int, **settings: object) -> None:
    """Trains for a while, then compares one update with autograd in float64.

    Both engines hand no gradient out. Adagrad adds its square to the accumulator, and, without momentum, moves against
    its sign.
    """
    settings = {"layers": [12], "n_sample": 20, "initialisation": "random", **settings}
    train, batch_size = small_sessions(), 8
    torch.manual_seed(3)
    content = (uniform(8, train.n_items, 4) - 0.5).astype(np.float32) if settings.get("content") else None
    model = build(train.n_items, content, engine=engine, **settings)
    batches = model.batches(train, batch_size, 0, augment=False)
    batches.chunk = model.config.bptt
    steps = start(model, train, batch_size)
    plan = batches.plan(0)
    at %= len(plan)
    for step in range(at):
        steps.step(batches.build(0, step, plan[step]), 0.1)
    batch = batches.build(0, at, plan[at])
    fresh = batch["origins"] < 0
    assert fresh.any() if at < 10 else len(fresh) < batch_size
    assert not fresh.all()
    hidden = _states(steps, model, batch_size)
    before = {key: value.detach().clone().double() for key, value in model.named_parameters()}
    squares = _squares(steps, model)
    for value in before.values():
        value.requires_grad_()
    loss, after = _plain(model, before, hidden, batch, batch_size, _masks(engine, model, batch))
    loss.backward()
    done = steps.step(batch, 1e-3)
    if model.config.bptt == 1:
        assert done.losses["loss"] == pytest.approx(loss.item(), rel=1e-6)
    for mine, theirs in zip(_states(steps, model, batch_size), after, strict=True):
        np.testing.assert_allclose(mine[: len(theirs)], theirs.detach(), rtol=1e-4, atol=1e-6)
    added = {key: value - squares[key] for key, value in _squares(steps, model).items()}
    for key, parameter in model.named_parameters():
        wanted = before[key].grad
        size = wanted.abs().max().item()
        assert size > 0, key
        root = added[key].clamp(min=0).sqrt()
        # Differences of float32 accumulators say nothing of gradients far below those before.
        noise = (squares[key] * 2.4e-7).sqrt()
        assert ((root - wanted.abs()).abs() <= 1e-4 * size + 1e-3 * wanted.abs() + noise).all(), key
        moved = parameter.detach().double() - before[key].detach()
        large = (wanted.abs() > 1e-2 * size) & torch.tensor(not model.config.momentum)
        assert torch.equal(moved[large].sign(), -wanted[large].sign()), key


def _plain(
    model: GRU4Rec,
    weights: dict[str, Tensor],
    hidden: list[np.ndarray],
    batch: dict[str, Tensor],
    batch_size: int,
    masks: list[list[Tensor]],
) -> tuple[Tensor, list[Tensor]]:
    """The summed losses of the steps of a chunk, and the states after them."""
    states = [torch.from_numpy(state).double() for state in hidden]
    begin, total = 0, torch.zeros((), dtype=torch.float64)
    for step, lanes in enumerate(batch["lanes"].tolist()):
        part = [batch[name][begin : begin + lanes].long() for name in ("inputs", "targets", "origins")]
        begin += lanes
        samples = batch["samples"][step].long()
        loss, states = _plain_step(model, weights, states, *part, samples, masks[step])
        total = total + loss / batch_size
    return total, states


def _plain_step(
    model: GRU4Rec,
    weights: dict[str, Tensor],
    hidden: list[Tensor],
    inputs: Tensor,
    targets: Tensor,
    origins: Tensor,
    samples: Tensor,
    masks: list[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    config, new = model.config, []
    items = weights["item_vectors"]
    if config.content == "sum":
        items = items + model.content.double() @ weights["content_weight"]
    states = [torch.where((origins >= 0)[:, None], state[origins.clamp(min=0)], 0.0) for state in hidden]
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cells = [[weights[f"cells.{i}.{part}"] for part in parts] for i in range(len(model.cells))]
    if config.embedding == "none":
        first = [weights[f"first.{part}"] for part in ("reset_update", "candidate", "bias")]
        x = plain_first(weights["first.rows"][inputs], states.pop(0), *first) * masks[0]
        new.append(x)
    else:
        x = (items if config.embedding == "constrained" else weights["input_vectors"])[inputs] * masks[0]
    for cell, state, mask in zip(cells, states, masks[1:], strict=True):
        x = plain_cell(x, state, cell) * mask
        new.append(x)
    columns = torch.cat([targets, samples])
    scores = x @ items[columns].T + weights["item_bias"][columns]
    if config.loss == "bpr-max":
        return plain_bpr_max(scores, config.elu_param, config.bpreg).sum(), new
    support = torch.tensor(model.support, dtype=torch.float64)
    powers = torch.cat([torch.ones(len(targets)), torch.full((len(samples),), config.sample_alpha)])
    return plain_cross_entropy(scores - config.logq * powers * torch.log(support[columns])).sum(), new


def _masks(engine: str, model: GRU4Rec, batch: dict[str, Tensor]) -> list[list[Tensor]]:
    """The factors that dropout will use in every step: of what the first layer reads, then of each layer's output."""
    config, found = model.config, []
    widths = list(config.layers) if config.embedding == "none" else [config.input_size, *config.layers]
    shares = [config.dropout_p_embed, *[config.dropout_p_hidden] * (len(widths) - 1)]
    with torch.random.fork_rng():
        for step, lanes in enumerate(batch["lanes"].tolist()):
            masks = []
            for layer, (width, share) in enumerate(zip(widths, shares, strict=True)):
                mask = np.ones(lanes * width, np.float32)
                if engine == "torch":
                    masks.append(F.dropout(torch.ones(lanes, width), share).double())
                    continue
                if share:
                    kernels.dropout_mask(mask, share, 0, int(batch["epoch"]), int(batch["first"]) + step, layer)
                masks.append(torch.from_numpy(mask).view(lanes, width).double())
            found.append(masks)
    return found


def _states(steps: Steps, model: GRU4Rec, batch_size: int) -> list[np.ndarray]:
    if not isinstance(steps, FusedSteps):
        return [state.numpy().copy() for state in steps._hidden]
    found, at = [], 0
    for width in model.config.layers:
        found.append(steps._hidden[at : at + batch_size * width].reshape(batch_size, width).copy())
        at += batch_size * width
    return found


def _squares(steps: Steps, model: GRU4Rec) -> dict[str, Tensor]:
    """Accumulators by the names of parameters."""
    if not isinstance(steps, FusedSteps):
        rows = {"item_vectors": "item_vectors", "item_bias": "item_bias"}
        rows["first.rows" if model.config.embedding == "none" else "input_vectors"] = "inputs"
        found = {key: steps.optimizers[name].squares[0][:-1] for key, name in rows.items() if name in steps.optimizers}
        dense = [key for key, _ in model.named_parameters() if key not in found]
        found |= dict(zip(dense, (square[:-1] for square in steps.optimizers["dense"].squares), strict=True))
        return {key: value.clone().double() for key, value in found.items()}
    width = steps.table.width
    flat = steps._rows
    found = {"item_vectors": flat[:, width + 1 : 2 * width + 1], "item_bias": flat[:, 2 * width + 1]}
    if not steps.shared:
        found["input_vectors"] = steps._embed_rows[:, steps.embed.width : 2 * steps.embed.width]
    at = 0
    for key, value in model.named_parameters():
        if key.startswith("cells."):
            part = steps.dense.square[at : at + value.numel()]
            found[key] = torch.from_numpy(part).view(value.shape)
            at += value.numel()
    return {key: value.clone().double() for key, value in found.items()}
