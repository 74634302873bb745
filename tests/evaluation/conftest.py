"""Sequences, drawn and real."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modalrec.data.sequences import Sequences
from modalrec.run import Run
from tests.evaluation.tiny import make_sequences


@pytest.fixture
def run() -> Run:
    return Run("evaluate", seed=7, quiet=True)


@pytest.fixture
def random_sequences() -> Callable[..., Sequences]:
    """Users with three to twelve random items each, repeats allowed."""

    def make(n_users: int, n_items: int, seed: int = 0) -> Sequences:
        rng = np.random.default_rng(seed)
        return make_sequences([list(rng.integers(0, n_items, rng.integers(3, 13))) for _ in range(n_users)], n_items)

    return make


@pytest.fixture(scope="session")
def scientific() -> Sequences:
    """Amazon Scientific under leave-one-out, straight from its file."""
    root = Path(os.environ.get("MODALREC_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    path = root / "amazon_scientific" / "Scientific.inter.json"
    if not path.is_file():
        pytest.skip(f"{path} is missing; set MODALREC_DATA to the folder of the real data")
    return make_sequences(list(json.loads(path.read_text()).values()), 4344)
