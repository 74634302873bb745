"""The closed gradients of the fused kernels against autograd, in float64, of formulas written out here."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from modalrec.compiled import AVAILABLE
from modalrec.recommenders import _gru4rec_kernels as kernels
from modalrec.recommenders._gru4rec_fused import FusedSteps
from modalrec.recommenders.gru4rec import GRU4Rec
from modalrec.training.steps import Steps
from tests.recommenders.gru4rec_cases import BOTH, build, small_sessions, start, uniform

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="numba is not installed")

# M lanes, C columns with repeats, U distinct ones.


def plain_cross_entropy(scores_MC: Tensor) -> Tensor:
    losses = []
    for lane, row in enumerate(scores_MC):
        share = torch.exp(row[lane] - torch.logsumexp(row, 0))
        losses.append(-torch.log(share + 1e-24))
    return torch.stack(losses)


def plain_bpr_max(scores_MC: Tensor, elu: float, bpreg: float) -> Tensor:
    losses = []
    for lane, row in enumerate(scores_MC):
        o = torch.where(row > 0, row, elu * (torch.exp(row.clamp(max=0)) - 1)) if elu else row
        others = torch.cat([o[:lane], o[lane + 1 :]])
        w = torch.softmax(others, 0)
        pull = (w * torch.sigmoid(o[lane] - others)).sum()
        losses.append(-torch.log(pull + 1e-24) + bpreg * (w * others**2).sum())
    return torch.stack(losses)


def merged(places: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Sums over the columns of each distinct item."""
    found = np.zeros((len(values), n))
    np.add.at(found, (slice(None), places), values)
    return found


@given(
    lanes=st.integers(1, 6),
    samples=st.integers(1, 12),
    spread=st.sampled_from([0.1, 1.0, 5.0, 25.0]),
    elu=st.sampled_from([0.0, 0.5, 1.0]),
    bpreg=st.sampled_from([0.0, 1.95]),
    seed=st.integers(0, 10**6),
)
def test_bpr_max_gradient_is_autograds_and_merging_repeated_columns_is_exact(
    lanes: int, samples: int, spread: float, elu: float, bpreg: float, seed: int
) -> None:
    """Columns repeat often here: two lanes with one target, samples that are targets, samples drawn twice."""
    rng = np.random.RandomState(seed)
    columns = rng.randint(0, 8, lanes + samples)
    items, places, counts = np.unique(columns, return_inverse=True, return_counts=True)
    scores_MU = (spread * (2 * rng.random_sample((lanes, len(items))) - 1)).astype(np.float32)
    bias_U = (rng.random_sample(len(items)) - 0.5).astype(np.float32)
    wanted = torch.tensor((scores_MU.astype(np.float64) + bias_U)[:, places], requires_grad=True)
    losses = plain_bpr_max(wanted, elu, bpreg)
    (losses.sum() / 7).backward()
    grad_MU = merged(places, wanted.grad.numpy(), len(items))
    grad_U, a, b = (np.zeros(len(items), np.float32) for _ in range(3))
    found = kernels.bpr_max(
        scores_MU,
        bias_U,
        counts.astype(np.float32),
        places[:lanes].astype(np.int32),
        np.float32(elu),
        np.float32(bpreg),
        np.float32(1 / 7),
        grad_U,
        a,
        b,
    )
    assert found == pytest.approx(losses.sum().item(), rel=1e-4, abs=1e-5)
    size = max(1.0, np.abs(grad_MU).max())
    np.testing.assert_allclose(scores_MU, grad_MU, rtol=2e-4, atol=3e-6 * size)
    np.testing.assert_allclose(grad_U, grad_MU.sum(0), rtol=2e-4, atol=1e-5 * size)


@given(
    lanes=st.integers(1, 6),
    samples=st.integers(1, 12),
    spread=st.sampled_from([0.1, 1.0, 5.0, 25.0]),
    logq=st.sampled_from([0.0, 0.5, 1.0]),
    alpha=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_cross_entropy_gradient_is_autograds_and_merging_repeated_columns_is_exact(
    lanes: int, samples: int, spread: float, logq: float, alpha: float, seed: int
) -> None:
    """With logQ an item's columns have different corrections as a target and as a sample."""
    rng = np.random.RandomState(seed)
    columns = rng.randint(0, 8, lanes + samples)
    items, places = np.unique(columns, return_inverse=True)
    support_N = rng.randint(1, 10**5, 8).astype(np.float64)
    correction_C = logq * np.log(support_N[columns]) * np.where(np.arange(len(columns)) < lanes, 1.0, alpha)
    weight_U = merged(places, np.exp(-correction_C)[None], len(items))[0]
    scores_MU = (spread * (2 * rng.random_sample((lanes, len(items))) - 1)).astype(np.float32)
    bias_U = (rng.random_sample(len(items)) - 0.5).astype(np.float32)
    wanted = torch.tensor((scores_MU.astype(np.float64) + bias_U)[:, places], requires_grad=True)
    losses = plain_cross_entropy(wanted - torch.tensor(correction_C))
    (losses.sum() / 7).backward()
    grad_MU = merged(places, wanted.grad.numpy(), len(items))
    grad_U = np.zeros(len(items), np.float32)
    found = kernels.cross_entropy(
        scores_MU,
        bias_U,
        weight_U.astype(np.float32),
        places[:lanes].astype(np.int32),
        np.exp(-correction_C[:lanes]).astype(np.float32),
        np.float32(1 / 7),
        grad_U,
    )
    assert found == pytest.approx(losses.sum().item(), rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(scores_MU, grad_MU, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grad_U, grad_MU.sum(0), rtol=1e-4, atol=3e-6)


@pytest.mark.parametrize("elu", [0.0, 0.5])
@pytest.mark.parametrize("own", [12.0, 20.0, 60.0])
def test_bpr_max_of_a_positive_far_above_its_negatives(own: float, elu: float) -> None:
    """The negatives' weights are relative to each other; next to e^60 they are all nothing."""
    scores_MU = np.array([[own, -0.3, 0.2, -1.0]], np.float32)
    wanted = torch.tensor(scores_MU, dtype=torch.float64, requires_grad=True)
    loss = plain_bpr_max(wanted, elu, 1.0)
    loss.sum().backward()
    lines = [np.zeros(4, np.float32) for _ in range(4)]
    one, positive = np.ones(4, np.float32), np.zeros(1, np.int32)
    found = kernels.bpr_max(
        scores_MU, lines[0], one, positive, np.float32(elu), np.float32(1), np.float32(1), *lines[1:]
    )
    assert found == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(scores_MU, wanted.grad, rtol=1e-4, atol=1e-6)


def test_bpr_max_without_any_negative_is_finite() -> None:
    scores_MU = np.array([[0.7]], np.float32)
    lines = [np.zeros(1, np.float32) for _ in range(4)]
    settings = np.float32(0.5), np.float32(1), np.float32(1)
    loss = kernels.bpr_max(scores_MU, lines[0], np.ones(1, np.float32), np.zeros(1, np.int32), *settings, *lines[1:])
    assert loss == pytest.approx(-np.log(1e-24))
    assert scores_MU == 0


def plain_cell(x: Tensor, h: Tensor, weights: list[Tensor]) -> Tensor:
    """A GRU whose reset gate acts after the recurrent product, with two biases; gates in the order r, z, n."""
    w_ih, w_hh, b_ih, b_hh = weights
    n = h.shape[1]
    a, b = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    r, z = torch.sigmoid(a[:, :n] + b[:, :n]), torch.sigmoid(a[:, n : 2 * n] + b[:, n : 2 * n])
    c = torch.tanh(a[:, 2 * n :] + r * b[:, 2 * n :])
    return (1 - z) * c + z * h


def plain_first(x: Tensor, h: Tensor, recurrent: Tensor, candidate: Tensor, bias: Tensor) -> Tensor:
    """The GRU of 2014: the reset gate acts on the state before the product; gates in the order candidate, r, z."""
    n = h.shape[1]
    x = x + bias
    r = torch.sigmoid(x[:, n : 2 * n] + h @ recurrent[:, :n])
    z = torch.sigmoid(x[:, 2 * n :] + h @ recurrent[:, n:])
    return (1 - z) * h + z * torch.tanh(x[:, :n] + (r * h) @ candidate)


@pytest.mark.parametrize("dropped", [False, True])
def test_gates_forward_and_backward_are_autograds(dropped: bool) -> None:
    """Lanes 1 and 3 are fresh; the others' states stand in order in a smaller array."""
    lanes, width, slot = 5, 6, np.array([0, -1, 1, -1, 2], np.int32)
    x, s, h = (3 * uniform(seed, *shape) - 1.5 for seed, shape in ((1, (5, 18)), (2, (3, 18)), (3, (3, 6))))
    biases = uniform(4, 2, 18) - 0.5
    mask = np.where(uniform(5, 5, 6) < 0.4, 0, 1 / 0.6) if dropped else np.zeros((0, 6))
    out = uniform(6, 5, 6) - 0.5
    tx, ts, th, tb = (torch.tensor(value, requires_grad=True) for value in (x, s, h, biases))
    full_s, full_h = torch.zeros(5, 18, dtype=torch.float64), torch.zeros(5, 6, dtype=torch.float64)
    rows = torch.tensor([0, 2, 4])
    full_s, full_h = full_s.index_copy(0, rows, ts), full_h.index_copy(0, rows, th)
    a, b = tx + tb[0], full_s + tb[1]
    r, z = torch.sigmoid(a[:, :6] + b[:, :6]), torch.sigmoid(a[:, 6:12] + b[:, 6:12])
    n = torch.tanh(a[:, 12:] + r * b[:, 12:])
    wanted = (1 - z) * n + z * full_h
    wanted = wanted * torch.tensor(mask) if dropped else wanted
    (wanted * torch.tensor(out)).sum().backward()

    f = [np.ascontiguousarray(value, np.float32) for value in (x, s, biases[0], biases[1], mask, h, out)]
    state, saved = np.zeros((lanes, width), np.float32), np.zeros((lanes, 4 * width), np.float32)
    state[[0, 2, 4]] = h
    kernels.gates_forward(f[0], f[1], f[2], f[3], slot, state, saved, f[4])
    np.testing.assert_allclose(state, wanted.detach(), rtol=1e-5, atol=1e-6)
    grad_x, grad_s = np.zeros((5, 18), np.float32), np.zeros((3, 18), np.float32)
    grad_bi, grad_bh = np.zeros(18, np.float32), np.zeros(18, np.float32)
    kernels.gates_backward(f[6], f[5], slot, saved, f[4], grad_x, grad_s, grad_bi, grad_bh)
    np.testing.assert_allclose(grad_x, tx.grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grad_s, ts.grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grad_bi, tb.grad[0], rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(grad_bh, tb.grad[1], rtol=1e-4, atol=2e-6)


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
