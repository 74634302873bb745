"""What training sets on a processor, and that it is put back."""

import subprocess
import sys

import torch
from torch import nn

from modalrec.training.processor import SMALL, processor

FAULTS = """
import resource, torch
from modalrec.training.processor import processor

def faults(rounds=8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.empty(2**26, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
with processor(torch.nn.Linear(2, 2), "cpu"):
    faults(1)
    inside = faults()
print(before, inside, faults())
"""
"""Pages that blocks of 64 MiB, made and dropped in turn, are given by the system, in a process with a heap of its own."""


def test_a_step_does_not_fetch_its_memory_anew() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, inside, after = map(int, done.stdout.split())
    assert inside < before / 8
    assert after > before / 2


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
