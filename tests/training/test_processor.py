"""What training sets on a processor, and that it is put back."""

import resource

import torch
from torch import nn

from modalrec.training.processor import SMALL, processor

MIB = 2**20


def faults(rounds: int = 8) -> int:
    """Pages that blocks of 64 MiB, made and dropped in turn, are given by the system."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.empty(64 * MIB, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_step_does_not_fetch_its_memory_anew() -> None:
    model = nn.Linear(2, 2)
    outside = faults()
    with processor(model, "cpu"):
        faults(1)
        inside = faults()
    assert inside < outside / 8
    assert faults() > outside / 2


def test_small_models_take_one_thread() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with processor(nn.Linear(2, 2), "cpu"):
            assert torch.get_num_threads() == 1
        with processor(nn.Linear(SMALL, 1, device="meta"), "cpu"):
            assert torch.get_num_threads() == 2
        with processor(nn.Linear(2, 2), "cuda"):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
