"""How training uses a processor: as many threads as pay, and memory that stays with the process."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import nn

SMALL = 5_000_000
"""Parameters below which a second thread slows training down (19 steps/s with one, 13 with two, at 300,000)."""
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""What glibc's `mallopt` sets by these numbers."""
MIB = 2**20


@contextmanager
def processor(model: nn.Module, device: str) -> Iterator[None]:
    """Sets both for a model that is trained on a CPU, and puts them back."""
    if device != "cpu":
        yield
        return
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in model.parameters()) < SMALL:
        torch.set_num_threads(1)
    _keep_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _give_memory_back()


def _keep_memory() -> None:
    """Serves large blocks out of the heap, and leaves freed ones there.

    A step's largest activations would else be fetched from the system anew each time, page by page: an eighth to a
    quarter of the time of a step of DIN at the published size.
    """
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def _give_memory_back() -> None:
    """Sets what glibc's own adjustment of these numbers ends at."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 65_536)
        libc.mallopt(MMAP_THRESHOLD, 32 * MIB)
        libc.mallopt(TRIM_THRESHOLD, 64 * MIB)
        libc.malloc_trim(0)
