import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.errors import TrainingError
from modalrec.training.loop import TrainingConfig
from modalrec.training.tables import TableSteps

CONFIG = TrainingConfig(weight_decay=0.0, clip_norm=0.0)


class Small(nn.Module):
    """A table of eight rows and a line."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(8, 3, sparse=sparse)
        self.line = nn.Linear(3, 1)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": F.mse_loss(self.line(self.table(batch["id"]))[:, 0], batch["label"])}


def batches(count: int = 6) -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [
        {"id": torch.randint(0, 5, (4,), generator=draw), "label": torch.randn(4, generator=draw)} for _ in range(count)
    ]


def trained(model: Small, optimizer: str, decay: float = 0.0, config: TrainingConfig = CONFIG) -> Small:
    steps = TableSteps(model, [model.table], config, optimizer, decay)  # type: ignore[arg-type]
    for batch in batches():
        steps.step(batch, 0.1)
    return model


def test_dense_tables_are_those_of_adam() -> None:
    ours, theirs = trained(Small(False), "adam", decay=0.3), Small(False)
    optimizer = torch.optim.Adam(theirs.parameters(), 0.1)
    for batch in batches():
        optimizer.zero_grad()
        (theirs.loss(batch)["loss"] + 0.15 * theirs.table.weight.square().sum()).backward()
        optimizer.step()
    torch.testing.assert_close(ours.table.weight, theirs.table.weight)
    torch.testing.assert_close(ours.line.weight, theirs.line.weight)


def test_lazy_rows_are_those_of_sparse_adam() -> None:
    ours, theirs = trained(Small(True), "lazy_adam"), Small(True)
    optimizers = [
        torch.optim.SparseAdam([theirs.table.weight], 0.1),
        torch.optim.Adam(theirs.line.parameters(), 0.1),
    ]
    for batch in batches():
        theirs.zero_grad()
        theirs.loss(batch)["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours.table.weight, theirs.table.weight)
    torch.testing.assert_close(ours.line.weight, theirs.line.weight)
    assert torch.equal(ours.table.weight[5:], Small(True).table.weight[5:])


def test_row_adagrad_keeps_one_number_a_row() -> None:
    ours, theirs = trained(Small(True), "row_adagrad", decay=0.2), Small(False)
    squares = torch.zeros(8)
    optimizer = torch.optim.Adam(theirs.line.parameters(), 0.1)
    for batch in batches():
        theirs.zero_grad()
        theirs.loss(batch)["loss"].backward()
        optimizer.step()
        for row in batch["id"].unique():
            grad = theirs.table.weight.grad[row] + 0.2 * theirs.table.weight.data[row]
            squares[row] += grad.square().mean()
            theirs.table.weight.data[row] -= 0.1 * grad / (squares[row].sqrt() + 1e-8)
    torch.testing.assert_close(ours.table.weight, theirs.table.weight)


@pytest.mark.parametrize("optimizer", ["lazy_adam", "row_adagrad"])
def test_a_step_is_clipped_by_the_norm_of_all_gradients(optimizer: str) -> None:
    model = Small(True)
    steps = TableSteps(model, [model.table], TrainingConfig(weight_decay=0.0, clip_norm=1e-3), optimizer, 0.0)  # type: ignore[arg-type]
    before = copy.deepcopy(model)
    steps.step(batches()[0], 1e-9)
    clipped = [p.grad for p in model.line.parameters()]
    before.loss(batches()[0])["loss"].backward()
    whole = torch.cat([p.grad.to_dense().flatten() for p in before.parameters()]).norm()
    for found, full in zip(clipped, before.line.parameters(), strict=True):
        torch.testing.assert_close(found, full.grad * 1e-3 / whole, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam", "row_adagrad"])
def test_a_resumed_run_ends_with_the_same_bits(optimizer: str) -> None:
    sparse = optimizer != "adam"
    whole = trained(Small(sparse), optimizer, decay=0.1)
    first = Small(sparse)
    steps = TableSteps(first, [first.table], CONFIG, optimizer, 0.1)  # type: ignore[arg-type]
    for batch in batches()[:3]:
        steps.step(batch, 0.1)
    kept = copy.deepcopy((first.state_dict(), steps.state_dict()))
    second = Small(sparse)
    second.load_state_dict(kept[0])
    steps = TableSteps(second, [second.table], CONFIG, optimizer, 0.1)  # type: ignore[arg-type]
    steps.load_state_dict(kept[1])
    for batch in batches()[3:]:
        steps.step(batch, 0.1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_nothing_of_a_step_that_is_not_finite_is_kept() -> None:
    model = Small(True)
    before = copy.deepcopy(model.state_dict())
    steps = TableSteps(model, [model.table], CONFIG, "lazy_adam", 0.0)
    with pytest.raises(TrainingError, match="loss nan"):
        steps.step({"id": torch.tensor([0]), "label": torch.tensor([torch.nan])}, 0.1)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_row_adagrad_of_a_dense_gradient_is_that_of_a_sparse_one() -> None:
    found = {}
    for sparse in (True, False):
        model = Small(sparse)
        steps = TableSteps(model, [model.table], CONFIG, "row_adagrad", 0.0, scale=3.0, whole=True)
        for batch in batches():
            steps.step(batch, 0.1)
        found[sparse] = model
    torch.testing.assert_close(found[True].table.weight, found[False].table.weight)
    torch.testing.assert_close(found[True].line.weight, found[False].line.weight)
    assert torch.equal(found[False].table.weight[5:], Small(True).table.weight[5:])
