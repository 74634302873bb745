"""What `fuse` says of a fuser: retrieval between modalities, and how much of each the fused vector tells."""

import numpy as np
from numpy.typing import NDArray

from modalrec.fusers import Fuser, TrainedFuser
from modalrec.stages._fuse_learn import Modalities, Shares

# N items, D length of a modality's vectors, F of the fused ones.

Vectors = NDArray[np.float32]

LARGEST, FITTED = 10_000, 20_000
"""At most so many items are measured and fitted on, the first of a random share."""
BLOCK = 1024
RIDGE = 0.01
"""Of the mean variance of the fused vector's numbers; keeps the probe from fitting noise on a small catalogue."""


def measure(fuser: TrainedFuser, modalities: Modalities, shares: Shares) -> dict[str, float]:
    """Retrieval between modalities and explained variance, on test items that have all modalities.

    Returns:
        `items_retrieval`, among how many items each is sought; then for every ordered pair such as `text_to_image`
        `_recall_1`, `_recall_10` and `_median_rank` (from 1, ties count against), by cosine in the fuser's common
        space. The same with the prefix `raw_`, by cosine of the vectors as they came, where lengths agree; and with
        `procrustes_`, by orthogonal Procrustes between the centred vectors, fitted on the items that the fuser learnt
        from: what can be had without training. See `explained_variance` for the rest. Nothing where fewer than two
        test items have all.
    """
    names = list(modalities.vectors)
    whole = np.logical_and.reduce(list(modalities.present.values()))
    rows = shares.test[whole[shares.test]][:LARGEST]
    fitted = shares.train[whole[shares.train]][:FITTED]
    found = {"items_retrieval": float(len(rows) if len(names) > 1 else 0)}
    if len(rows) < 2:
        return found
    device = next(fuser.parameters()).device
    batch = {name: value.to(device) for name, value in modalities.rows(rows).items()}
    after = {name: vectors.cpu().numpy() for name, vectors in fuser.project(batch).items()}
    units = {name: _unit(vectors[rows]) for name, vectors in modalities.vectors.items()}
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            found |= _both_ways("", first, second, after[first], after[second])
            if units[first].shape == units[second].shape:
                found |= _both_ways("raw_", first, second, units[first], units[second])
            if len(fitted):
                known_first, known_second = (_unit(modalities.vectors[name][fitted]) for name in (first, second))
                pair = procrustes(known_first, known_second, units[first], units[second])
                found |= _both_ways("procrustes_", first, second, *pair)
    return found | explained_variance(fuser, modalities, fitted, rows)


def retrieval(queries_ND: Vectors, sought_ND: Vectors) -> dict[str, float]:
    """Recall and median rank of row i of the second among all its rows, by cosine to row i of the first."""
    queries_ND, sought_ND = _unit(queries_ND), _unit(sought_ND)
    ranks = []
    for begin in range(0, len(queries_ND), BLOCK):
        scores = queries_ND[begin : begin + BLOCK] @ sought_ND.T
        own = scores[np.arange(len(scores)), begin + np.arange(len(scores))]
        ranks.append((scores >= own[:, None]).sum(1))
    ranks_N = np.concatenate(ranks)
    return {
        "recall_1": float((ranks_N <= 1).mean()),
        "recall_10": float((ranks_N <= 10).mean()),
        "median_rank": float(np.median(ranks_N)),
    }


def procrustes(fit_first: Vectors, fit_second: Vectors, first: Vectors, second: Vectors) -> tuple[Vectors, Vectors]:
    """Both centred, and the first turned onto the second by the best orthogonal map over the rows to fit."""
    mean_first, mean_second = fit_first.mean(0), fit_second.mean(0)
    left, _, right = np.linalg.svd((fit_first - mean_first).T @ (fit_second - mean_second), full_matrices=False)
    return (first - mean_first) @ left, (second - mean_second) @ right.T


def explained_variance(
    fuser: Fuser, modalities: Modalities, fitted: NDArray[np.int64], rows: NDArray[np.int64]
) -> dict[str, float]:
    """`text_explained_variance` and so on: what a linear map from the fused vector tells of the L2-normalised inputs.

    The map is ridge regression over the rows `fitted`; the share of the variance that it explains is of `rows`. It can
    be below zero on items that are unlike the fitted ones.
    """
    if not len(fitted):
        return {}
    known, new = _fused(fuser, modalities, fitted), _fused(fuser, modalities, rows)
    mean_F = known.mean(0)
    centred = (known - mean_F).astype(np.float64)
    gram = centred.T @ centred
    gram += max(RIDGE * float(np.trace(gram)) / len(gram), 1e-9) * np.eye(len(gram))
    found = {}
    for name, vectors in modalities.vectors.items():
        inputs = _unit(vectors[fitted]).astype(np.float64)
        mean_D = inputs.mean(0)
        map_FD = np.linalg.solve(gram, centred.T @ (inputs - mean_D))
        wanted = _unit(vectors[rows]) - mean_D
        error = np.square((new - mean_F) @ map_FD - wanted).sum()
        spread = np.square(wanted).sum()
        found[f"{name}_explained_variance"] = float(1 - error / spread) if spread > 1e-9 else 0.0
    return found


def _both_ways(prefix: str, first: str, second: str, first_ND: Vectors, second_ND: Vectors) -> dict[str, float]:
    ways = {f"{first}_to_{second}": (first_ND, second_ND), f"{second}_to_{first}": (second_ND, first_ND)}
    return {f"{prefix}{way}_{name}": value for way, pair in ways.items() for name, value in retrieval(*pair).items()}


def _fused(fuser: Fuser, modalities: Modalities, rows: NDArray[np.int64]) -> Vectors:
    vectors = {name: values[rows] for name, values in modalities.vectors.items()}
    return fuser.fuse(vectors, {name: flags[rows] for name, flags in modalities.present.items()})


def _unit(vectors_ND: Vectors) -> Vectors:
    largest = np.abs(vectors_ND).max(axis=1, keepdims=True)
    scaled = np.divide(vectors_ND, largest, out=np.zeros_like(vectors_ND), where=largest > 0)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.divide(scaled, norms, out=np.zeros_like(scaled), where=norms > 0)
