"""What `quantize` makes with its trained quantizers: codes, errors, usage, and a map of the items."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modalrec.evaluation.codes import colliding
from modalrec.quantizers import Quantizer
from modalrec.run import Run
from modalrec.stages._quantize_read import Tower
from modalrec.training.last_level import LastLevel, reassigned
from modalrec.training.vectors import Chosen, every_row

# N items, D length of the vectors, L levels.

MAP_ITEMS = 1500


@dataclass(frozen=True)
class Divided:
    """The rows of each tower, by its name.

    Attributes:
        learnt: Rows with a vector that was learnt from.
        held_out: Rows with a vector that was not.
    """

    learnt: dict[str, NDArray[np.int64]]
    held_out: dict[str, NDArray[np.int64]]


def code_all(
    quantizers: list[Quantizer], towers: list[Tower], divided: Divided, way: LastLevel, metrics: dict[str, float]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Codes [N, L] of all towers side by side and the sum of their errors [N]; adds to the metrics."""
    coded = [code(quantizer, every_row(tower.vectors_ND)) for quantizer, tower in zip(quantizers, towers, strict=True)]
    codes_NL = np.concatenate([codes for codes, _ in coded], axis=1)
    metrics["nearest_collisions"] = colliding(codes_NL)
    errors = [errors_N for _, errors_N in coded]
    _add_errors("nearest_", towers, errors, divided, metrics)
    if way != "nearest":
        last, own = quantizers[-1], len(quantizers[-1].codebook_sizes)
        device = _device(last)
        rows = np.flatnonzero(all_present(towers))

        def decode(codes: torch.Tensor) -> torch.Tensor:
            return last.decode(codes[:, -own:].to(device)).cpu()

        vectors_ND = towers[-1].vectors_ND
        chosen = Chosen([(vectors_ND, rows)])
        codes_NL[rows] = reassigned(codes_NL[rows], chosen, last.codebook_sizes[-1], decode, way)
        errors[-1] = _errors(last, codes_NL[:, -own:], every_row(vectors_ND))
    _add_errors("", towers, errors, divided, metrics)
    return codes_NL, np.sum(errors, axis=0)


def _add_errors(
    prefix: str, towers: list[Tower], errors: list[NDArray[np.float32]], divided: Divided, metrics: dict[str, float]
) -> None:
    """Relative errors of each tower under its name, and their mean."""
    parts: dict[str, list[float]] = {}
    for tower, errors_N in zip(towers, errors, strict=True):
        mean_D = Chosen([(tower.vectors_ND, divided.learnt[tower.name])]).mean()
        for kind, rows in (("", np.flatnonzero(tower.present_N)), ("held_out_", divided.held_out[tower.name])):
            if len(rows):
                error = relative(errors_N[rows], Chosen([(tower.vectors_ND, rows)]), mean_D)
                parts.setdefault(kind, []).append(error)
                if tower.name:
                    metrics[f"{prefix}{tower.name}_{kind}relative_reconstruction_error"] = error
    for kind, values in parts.items():
        metrics[f"{prefix}{kind}relative_reconstruction_error"] = sum(values) / len(values)


def code(quantizer: Quantizer, vectors_ND: Chosen) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Codes [N, L] and the squared error of each reconstruction [N]."""
    device = _device(quantizer)
    blocks = [quantizer.encode(torch.from_numpy(block).to(device)).cpu() for block in vectors_ND.blocks()]
    codes_NL = torch.cat(blocks).to(torch.int32).numpy()
    return codes_NL, _errors(quantizer, codes_NL, vectors_ND)


def _errors(quantizer: Quantizer, codes_NL: NDArray[np.int32], vectors_ND: Chosen) -> NDArray[np.float32]:
    device, errors, done = _device(quantizer), [], 0
    for block in vectors_ND.blocks():
        codes = torch.from_numpy(codes_NL[done : done + len(block)]).long().to(device)
        wanted = torch.from_numpy(block).to(device)
        errors.append((quantizer.decode(codes) - wanted).pow(2).sum(1).cpu().numpy())
        done += len(block)
    return np.concatenate(errors)


def _device(quantizer: Quantizer) -> torch.device:
    return next(iter(quantizer.state_dict().values())).device


def any_present(towers: list[Tower]) -> NDArray[np.bool_]:
    """[N] whether the item has a vector in a tower."""
    return np.logical_or.reduce([tower.present_N for tower in towers])


def all_present(towers: list[Tower]) -> NDArray[np.bool_]:
    """[N] whether the item has a vector in every tower."""
    return np.logical_and.reduce([tower.present_N for tower in towers])


def relative(errors_N: NDArray[np.float32], vectors_ND: Chosen, mean_D: NDArray[np.float32]) -> float:
    """Squared error of the reconstructions over that of the mean; 0 where all vectors are the same."""
    error = float(errors_N.sum(dtype=np.float64))
    spread = sum(float(np.square(block_ND - mean_D).sum(dtype=np.float64)) for block_ND in vectors_ND.blocks())
    return error / spread if spread else 0.0


def item_map(tower: Tower, run: Run) -> dict[str, Any]:
    """Rows of some items, and where they lie along the two leading principal components of their vectors."""
    rows = np.flatnonzero(tower.present_N)
    rows = np.sort(run.rng("map").permutation(rows)[:MAP_ITEMS])
    vectors_ND = tower.vectors_ND[rows]
    centred_ND = vectors_ND - vectors_ND.mean(0)
    left, values, _ = np.linalg.svd(centred_ND, full_matrices=False)
    places_N2 = np.zeros((len(rows), 2), np.float32)
    found = min(2, len(values))
    places_N2[:, :found] = left[:, :found] * values[:found]
    places_N2 /= max(float(np.abs(places_N2).max()), 1e-30)
    shares = (np.square(values[:2]) / max(float(np.square(values).sum()), 1e-30)).round(4).tolist()
    return {"rows": rows.tolist(), "places": places_N2.round(3).tolist(), "variance": shares}
