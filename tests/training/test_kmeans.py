"""K-means against scikit-learn, on real vectors, and where there is little to cluster."""

from pathlib import Path

import numpy as np
import pytest
import torch

from modalrec.testing.quantizers import mixture
from modalrec.training.kmeans import kmeans, nearest


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", [0])
def test_inertia_is_scikit_learns(real_data: Path, seed: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    vectors = np.load(real_data / "derived" / "scientific_text_minilm_l6_fp16.npy")[:1500].astype(np.float32)
    theirs = cluster.KMeans(64, n_init=1, random_state=seed).fit(vectors).inertia_
    assert kmeans(torch.from_numpy(vectors), 64, generator=generator(seed)).inertia < 1.01 * theirs


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
