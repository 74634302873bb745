"""K-means against scikit-learn, on real vectors, and where there is little to cluster."""

from pathlib import Path

import numpy as np
import pytest
import torch

from modalrec.testing.quantizers import mixture
from modalrec.training.kmeans import kmeans, nearest
from modalrec.training.lloyd import bounded


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("rows", "centres"), [(1500, 64), (4344, 256)])
def test_inertia_is_scikit_learns_or_less(real_data: Path, rows: int, centres: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    vectors = np.load(real_data / "derived" / "scientific_text_minilm_l6_fp16.npy")[:rows].astype(np.float32)
    theirs = cluster.KMeans(centres, n_init=1, random_state=0).fit(vectors).inertia_
    assert kmeans(torch.from_numpy(vectors), centres, generator=generator(0)).inertia < 1.001 * theirs


def test_plain_iterations_where_there_is_no_compiler(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where the bounds would not fit into memory: the same minimum, about as low."""
    stored = np.load(real_data / "derived" / "scientific_text_minilm_l6_fp16.npy")[:1500].astype(np.float32)
    bounded = kmeans(torch.from_numpy(stored), 64, generator=generator(0)).inertia
    monkeypatch.setattr("modalrec.compiled.AVAILABLE", False)
    assert kmeans(torch.from_numpy(stored), 64, generator=generator(0)).inertia < 1.03 * bounded
    monkeypatch.undo()
    monkeypatch.setattr("modalrec.training.kmeans.LARGEST_BOUNDS", 1000)
    assert kmeans(torch.from_numpy(stored), 64, generator=generator(0)).inertia < 1.03 * bounded


def test_bounds_leave_every_point_at_its_nearest_centre() -> None:
    """After swaps and drifting centres, whatever was not computed; in more dimensions than the first iterations see."""
    points_ND = mixture(3000, 40)[0].repeat(1, 12) + 0.5 * torch.randn(3000, 288, generator=generator(0))
    found = kmeans(points_ND, 30, generator=generator(0))
    squares_NV = torch.cdist(points_ND.double(), found.centres_VD.double()).square()
    own_N = squares_NV.gather(1, found.labels_N[:, None])[:, 0]
    assert (own_N <= squares_NV.min(1).values + 1e-4).all()
    means_VD = torch.stack([points_ND[found.labels_N == label].mean(0) for label in range(30)])
    torch.testing.assert_close(found.centres_VD, means_VD, atol=1e-3, rtol=0)


def test_swaps_mend_bad_seeds() -> None:
    """Two far heaps, all seeds but one in the first: merges there pay for splits here."""
    points_ND = 0.1 * torch.randn(400, 3, generator=generator(0))
    points_ND[200:] += 100 + 5 * torch.randn(200, 3, generator=generator(1))
    seeds = np.append(np.arange(9), 300)
    centres_VD, _ = bounded(points_ND.numpy(), points_ND.numpy()[seeds], 300, 0.0)
    assert (centres_VD.mean(1) > 50).sum() >= 5


def test_result_is_consistent() -> None:
    points_ND, _ = mixture()
    found = kmeans(points_ND, 8, generator=generator(0))
    distances_NV = torch.cdist(points_ND, found.centres_VD)
    assert torch.equal(found.labels_N, distances_NV.argmin(1))
    assert found.inertia == pytest.approx(float(distances_NV.min(1).values.pow(2).sum()), rel=1e-4)
    means_VD = torch.stack([points_ND[found.labels_N == label].mean(0) for label in range(8)])
    torch.testing.assert_close(found.centres_VD, means_VD, atol=1e-3, rtol=0)


def test_finds_separate_clusters() -> None:
    """Far from the origin too, where differences of large squares lose digits."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 6
    points = (100.0 + 3 * rng.normal(size=(6, 5))[labels] + 0.01 * rng.normal(size=(600, 5))).astype(np.float32)
    found = kmeans(torch.from_numpy(points), 6, generator=generator(1)).labels_N.numpy()
    assert len({(int(a), int(b)) for a, b in zip(labels, found, strict=True)}) == 6


def test_same_generator_same_bits() -> None:
    points_ND, _ = mixture()
    first, second = (kmeans(points_ND, 16, generator=generator(3)) for _ in range(2))
    assert torch.equal(first.centres_VD, second.centres_VD)
    assert not torch.equal(first.centres_VD, kmeans(points_ND, 16, generator=generator(4)).centres_VD)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_fewer_points_than_centres(n: int) -> None:
    points_ND = mixture()[0][:n]
    found = kmeans(points_ND, 8, generator=generator(0))
    assert found.centres_VD.shape == (8, points_ND.shape[1])
    assert found.inertia == pytest.approx(0, abs=1e-9)
    assert len(found.labels_N.unique()) == n


def test_equal_points() -> None:
    found = kmeans(torch.full((20, 4), 0.3), 5, generator=generator(0))
    assert found.inertia == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(found.centres_VD, torch.full((5, 4), 0.3))


def test_no_centre_is_wasted_on_distinct_points() -> None:
    points_ND = torch.randn(500, 3, generator=generator(0))
    assert len(kmeans(points_ND, 100, generator=generator(0)).labels_N.unique()) == 100


def test_nearest_takes_the_first_of_equals() -> None:
    labels_N, _ = nearest(torch.zeros(3, 2), torch.ones(4, 2))
    assert labels_N.tolist() == [0, 0, 0]
