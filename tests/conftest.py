"""What all tests share: one thread each, fixed examples, the embedded store, and where real data is."""

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch: two test processes share two cores, and so do their children

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.faults.counting import (
    pytest_configure,
    pytest_itemcollected,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from tests.stores import embedded, prefix, store_env

COUNTING = [pytest_configure, pytest_itemcollected, pytest_runtest_logreport, pytest_sessionfinish]
__all__ = ["COUNTING", "embedded", "prefix", "pytest_terminal_summary", "store_env"]

ROOT = Path(__file__).parents[1]

# The machine may be busy: time says nothing about a test here, and a run must give what the last one gave.
settings.register_profile("modalrec", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("modalrec")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, or a skip with the reason."""
    folder = Path(os.environ.get("MODALREC_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MODALREC_DATA")
    return folder
