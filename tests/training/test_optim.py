"""Adagrad with momentum against recorded updates, and what it leaves alone."""

import numpy as np
import pytest
import torch

from modalrec.recommenders import _gru4rec_kernels as kernels
from modalrec.training.optim import Adagrad
from tests.recommenders.gru4rec_cases import OPTIMIZER_ROWS, optimizer_grads, reference, uniform

MOMENTA = ("0.0", "0.3")


def close(found: object, recorded: object) -> None:
    np.testing.assert_allclose(found, recorded, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("momentum", MOMENTA)
def test_rows_and_vectors_move_as_recorded(momentum: str) -> None:
    """Weights, accumulators and velocities after each update; rows repeat within an update."""
    table, vector = torch.tensor(uniform(19, 6, 3)).float(), torch.tensor(uniform(18, 4)).float()
    rows, dense = Adagrad([table], float(momentum)), Adagrad([vector], float(momentum))
    for ids, (row_grads, grad), recorded in zip(
        OPTIMIZER_ROWS, optimizer_grads(), reference("optimizer")["momentum"][momentum], strict=True
    ):
        rows.rows(torch.tensor(ids), torch.from_numpy(row_grads), 0.1)
        dense.dense([torch.from_numpy(grad)], 0.1)
        close(table, recorded["rows"])
        close(rows.squares[0][:-1], recorded["rows_square"])
        close(vector, recorded["dense"])
        close(dense.squares[0][:-1], recorded["dense_square"])
        if float(momentum):
            close(rows.velocities[0][:-1], recorded["rows_velocity"])
            close(dense.velocities[0][:-1], recorded["dense_velocity"])


@pytest.mark.parametrize("momentum", MOMENTA)
def test_the_fused_update_moves_rows_and_vectors_as_recorded(momentum: str) -> None:
    """It is given each row once, with the sum of its gradients; the last number of a row is its bias."""
    copies, mu, rate = (3 if float(momentum) else 2), np.float32(momentum), np.float32(0.1)
    table = np.zeros((6, copies * 3), np.float32)
    table[:, :3] = uniform(19, 6, 3)
    vector, square, velocity = uniform(18, 4).astype(np.float32), np.zeros(4, np.float32), np.zeros(4, np.float32)
    for ids, (row_grads, grad), recorded in zip(
        OPTIMIZER_ROWS, optimizer_grads(), reference("optimizer")["momentum"][momentum], strict=True
    ):
        rows, places = np.unique(ids, return_inverse=True)
        summed = np.zeros((len(rows), 3), np.float32)
        np.add.at(summed, places, row_grads)
        weights, bias = np.ascontiguousarray(summed[:, :2]), np.ascontiguousarray(summed[:, 2])
        flat = table.reshape(-1)
        kernels.adagrad_rows(flat, copies * 3, 2, rows.astype(np.int32), len(rows), weights, bias, rate, mu)
        kernels.adagrad_dense(vector, square, velocity, grad, rate, mu)
        close(table[:, :3], recorded["rows"])
        close(table[:, 3:6], recorded["rows_square"])
        close(vector, recorded["dense"])
        close(square, recorded["dense_square"])
        if float(momentum):
            close(table[:, 6:], recorded["rows_velocity"])
            close(velocity, recorded["dense_velocity"])


def test_rows_without_a_bias_to_update_keep_theirs() -> None:
    """Inputs come behind the columns of the scores and have no gradient of a bias."""
    table = np.ones(2 * 6, np.float32)
    rows, grads, bias = np.array([0, 1], np.int32), np.ones((2, 2), np.float32), np.ones(2, np.float32)
    kernels.adagrad_rows(table, 6, 2, rows, 1, grads, bias, np.float32(0.1), np.float32(0))
    moved = table.reshape(2, 6)
    assert moved[0, 2] < 1
    assert moved[0, 5] == 2
    assert moved[1, 2] == moved[1, 5] == 1
    assert (moved[:, :2] < 1).all()


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_untouched_rows_are_frozen_in_weights_accumulators_and_velocities(momentum: float) -> None:
    torch.manual_seed(0)
    table = torch.randn(10, 3)
    optimizer = Adagrad([table], momentum)
    optimizer.rows(torch.arange(10), torch.randn(10, 3), 0.1)
    before = [part.clone() for part in (table, *optimizer.squares, *optimizer.velocities)]
    for _ in range(3):
        optimizer.rows(torch.tensor([2, 9, 2]), torch.randn(3, 3), 0.1)
    for old, new in zip(before, (table, *optimizer.squares, *optimizer.velocities), strict=True):
        changed = (old[:10] != new[:10]).any(1)
        assert changed.nonzero().flatten().tolist() == [2, 9]


def test_gradients_of_a_row_that_repeats_are_summed_before_they_are_squared() -> None:
    tables = [torch.zeros(3, 2), torch.zeros(3, 2)]
    optimizers = [Adagrad([table], 0.9) for table in tables]
    optimizers[0].rows(torch.tensor([1, 1, 1]), torch.tensor([[1.0, 2], [3, -2], [0, 1]]), 0.1)
    optimizers[1].rows(torch.tensor([1]), torch.tensor([[4.0, 1]]), 0.1)
    assert torch.equal(tables[0], tables[1])
    assert optimizers[0].squares[0][1].tolist() == [16, 1]


def test_order_of_rows_does_not_matter() -> None:
    grads, ids = torch.arange(12.0).view(6, 2), torch.tensor([4, 0, 4, 1, 4, 0])
    tables = [torch.zeros(5, 2), torch.zeros(5, 2)]
    order = torch.tensor([5, 2, 0, 1, 4, 3])
    Adagrad([tables[0]], 0.0).rows(ids, grads, 0.1)
    Adagrad([tables[1]], 0.0).rows(ids[order], grads[order], 0.1)
    torch.testing.assert_close(tables[0], tables[1])


def test_a_column_of_biases_is_a_table_too() -> None:
    bias = torch.zeros(4)
    Adagrad([bias], 0.5).rows(torch.tensor([3, 1, 3]), torch.tensor([1.0, 1, 1]), 0.1)
    torch.testing.assert_close(bias, torch.tensor([0, -0.1, 0, -0.1]))


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_resumes_to_the_same_bits(momentum: float) -> None:
    torch.manual_seed(0)
    table = torch.randn(6, 3)
    first = Adagrad([table], momentum)
    updates = [(torch.randint(6, (4,)), torch.randn(4, 3)) for _ in range(6)]
    for ids, grads in updates[:3]:
        first.rows(ids, grads, 0.1)
    copy = table.clone()
    second = Adagrad([copy], momentum)
    second.load_state_dict(first.state_dict())
    for ids, grads in updates[3:]:
        first.rows(ids, grads, 0.1)
        second.rows(ids, grads, 0.1)
    assert torch.equal(table, copy)
