"""A small DLRM from formulas: weights, ids and numbers, as the recorded values of the published code were made from."""

import torch
from torch import Tensor, nn

WIDTH, DENSE, ROWS = 3, 4, 6
TABLES = (5, 7, 4)
BOTTOM, TOP = (5, WIDTH), (6, 4, 1)
RATE, STEPS = 0.1, 3


def waves(*shape: int, number: int) -> Tensor:
    """Numbers between -0.8 and 0.8."""
    count = int(torch.tensor(shape).prod())
    return (0.8 * torch.sin(0.37 * torch.arange(count, dtype=torch.float64) ** 2 + number)).reshape(shape).float()


def fill(module: nn.Module, number: int) -> None:
    """Puts waves into the parameters of linear layers, in order."""
    with torch.no_grad():
        for place, parameter in enumerate(module.parameters()):
            parameter.copy_(waves(*parameter.shape, number=number + place))


def numbers() -> Tensor:
    """[ROWS, DENSE]."""
    return waves(ROWS, DENSE, number=90)


def tables() -> list[Tensor]:
    """The embeddings."""
    return [waves(size, WIDTH, number=70 + place) for place, size in enumerate(TABLES)]


def ids() -> list[Tensor]:
    """[ROWS] of each table."""
    return [(torch.arange(ROWS) * (place + 2) + place) % size for place, size in enumerate(TABLES)]


def gradients() -> list[tuple[Tensor, Tensor]]:
    """For each step, rows of the first table, one of them twice, and their gradients."""
    return [(torch.tensor([step, 3, step, 1]), waves(4, WIDTH, number=step)) for step in range(STEPS)]
