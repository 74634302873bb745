"""The primitives of the kernels, and where their machine code is kept."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modalrec import compiled

numba = pytest.mark.skipif(not compiled.AVAILABLE, reason="numba is not installed")


@compiled.kernel
def exps(x, out):
    for place in range(x.size):
        out[place] = compiled.exp(x[place])


@compiled.kernel
def sigmoids(x, out):
    for place in range(x.size):
        out[place] = compiled.sigmoid(x[place])


@compiled.kernel
def tanhs(x, out):
    for place in range(x.size):
        out[place] = compiled.tanh(x[place])


def applied(kernel, x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    kernel(x, out)
    return out


SPREAD = np.concatenate([np.linspace(-87, 88, 200_001), np.linspace(-1, 1, 100_001)]).astype(np.float32)


@numba
@pytest.mark.parametrize(("reach", "units"), [(20, 2), (87, 5)])
def test_exp_is_right_to_a_few_units_in_the_last_place(reach: float, units: int) -> None:
    """More of them far from 0: sums may be reordered, and that joins the two parts of ln 2."""
    x = np.linspace(-reach, reach, 200_001).astype(np.float32)
    wanted = np.exp(x.astype(np.float64))
    assert (np.abs(applied(exps, x) - wanted) / np.spacing(wanted.astype(np.float32))).max() < units
    assert applied(exps, np.zeros(1, np.float32)) == 1


@numba
def test_exp_beyond_its_range_is_its_largest_and_smallest_number() -> None:
    found = applied(exps, np.array([-1e30, -200, 200, 1e30], np.float32))
    assert (np.isfinite(found)).all()
    assert (found[:2] < 2e-38).all()
    assert (found[:2] > 0).all()
    assert (found[2:] > 1e38).all()


@numba
def test_sigmoid_and_tanh_are_those_of_float64() -> None:
    wide = SPREAD.astype(np.float64)
    np.testing.assert_allclose(applied(sigmoids, SPREAD), 1 / (1 + np.exp(-wide)), rtol=5e-7, atol=1e-37)
    np.testing.assert_allclose(applied(tanhs, SPREAD), np.tanh(wide), rtol=0, atol=3e-7)
    ends = np.array([-np.inf, np.inf], np.float32)
    np.testing.assert_allclose(applied(sigmoids, ends), [0, 1], atol=1e-37)
    np.testing.assert_allclose(applied(tanhs, ends), [-1, 1])


def test_the_same_primitives_run_without_a_compiler() -> None:
    blocked = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"numba", "llvmlite"}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import numpy as np
from modalrec import compiled
assert not compiled.AVAILABLE
for x in np.linspace(-80, 80, 501).astype(np.float32):
    assert abs(compiled.exp(x) / np.exp(np.float64(x)) - 1) < 3e-7, x
    assert abs(compiled.sigmoid(x) - 1 / (1 + np.exp(-np.float64(x)))) < 3e-7, x
    assert abs(compiled.tanh(x) - np.tanh(np.float64(x))) < 3e-7, x
@compiled.kernel
def double(x):
    for place in range(x.size):
        compiled.prefetch(x, place)
        x[place] *= 2
x = np.ones(3)
double(x)
assert x.tolist() == [2, 2, 2]
"""
    ended = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


SMALL = """
from modalrec.compiled import kernel

@kernel
def double(x):
    for place in range(x.size):
        x[place] *= 2
"""
KERNEL = """
import sys
import numpy as np
from modalrec import compiled
sys.path.insert(0, sys.argv[1])
import small
x = np.ones(3)
small.double(x)
print(x.tolist(), sum(small.double.stats.cache_hits.values()))
"""


def run_kernel(folder: Path, cache: str | None) -> str:
    (folder / "small.py").write_text(SMALL)
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    if cache:
        environment["NUMBA_CACHE_DIR"] = cache
    command = [sys.executable, "-c", KERNEL, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@numba
def test_machine_code_is_kept_for_the_next_process(tmp_path: Path) -> None:
    cache = str(tmp_path / "kept")
    assert run_kernel(tmp_path, cache) == "[2.0, 2.0, 2.0] 0"
    assert any((tmp_path / "kept").rglob("*.nbi"))
    assert run_kernel(tmp_path, cache) == "[2.0, 2.0, 2.0] 1"


@numba
def test_a_kernel_runs_where_machine_code_cannot_be_kept(tmp_path: Path) -> None:
    """As in a container with a read-only file system: a file stands where the folder should."""
    (tmp_path / "file").write_text("")
    assert run_kernel(tmp_path, str(tmp_path / "file" / "folder")) == "[2.0, 2.0, 2.0] 0"
