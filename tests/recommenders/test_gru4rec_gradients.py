"""The closed gradients of the fused kernels against autograd, in float64, of formulas written out here."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modalrec.compiled import AVAILABLE
from modalrec.recommenders import _gru4rec_kernels as kernels
from tests.recommenders.gru4rec_cases import uniform
from tests.recommenders.gru4rec_plain import plain_bpr_max, plain_cross_entropy

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="numba is not installed")

# M lanes, C columns with repeats, U distinct ones.


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
