"""What a model's folder keeps so that items that come later get vectors and codes as its own items did."""

import json
import shutil
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from modalrec.artifacts.codes import QUANTIZER
from modalrec.artifacts.embeddings import Batch, load
from modalrec.artifacts.manifest import Ancestor, Manifest, read_manifest
from modalrec.errors import ArtifactError
from modalrec.fusers import FUSER, load_fuser
from modalrec.quantizers import load_quantizer
from modalrec.run import Run
from modalrec.stages import load_stage
from modalrec.stages._quantize_code import code
from modalrec.training.vectors import every_row

# N items, V length of a fused vector, L codes before the position.

FOLDER = "encoding"
MODALITIES = ("text", "image")


def keep_encoding(model: Path, given: Mapping[str, Path], manifests: Mapping[str, Manifest], used: Set[str]) -> None:
    """Copies the fuser and the quantizer behind a model's vectors and codes into its folder.

    Args:
        model: The building place of the model.
        given: The folders of all edges, also of those that the model has no use for.
        manifests: Theirs.
        used: The edges that the model is built from.
    """
    vectors: set[str | None] = {manifests["embeddings"].digest} if "embeddings" in used else set()
    if "codes" in used:
        codes = manifests["codes"]
        _copy(given["codes"], [name for name in codes.files if Path(name).name.startswith("quantizer.")], model)
        vectors.add(codes.inputs.get("embeddings"))
    if "embeddings" in given and manifests["embeddings"].digest in vectors:
        names = [name for name in manifests["embeddings"].files if name.startswith("fuser.")]
        _copy(given["embeddings"], names, model)


def embed(dataset: Path, scratch: Path, model: Manifest, run: Run) -> dict[str, Batch]:
    """Vectors of a dataset's items by modality, from the encoders that the model's items were given to.

    Raises:
        ArtifactError: Nobody knows how the model's vectors were made, or the encoder's weights are others now.
    """
    found: dict[str, Batch] = {}
    for modality in MODALITIES:
        name = f"embed_{modality}"
        before = _made_by(model, name)
        if before is None or not before.statistics.get("present"):
            continue
        function, config_class = load_stage(name)
        try:
            config = config_class.model_validate(before.config)
        except ValidationError:
            raise ArtifactError(f"the model's {name} has settings of another version; train the model again") from None
        place = scratch / f"{modality}_embeddings"
        function(dataset, place, config=config, run=Run(name, seed=run.seed, device=run.device, quiet=run.quiet))
        found[modality] = load(place)
        now = read_manifest(place, "embeddings").statistics
        if now["present"] and now.get("weights", "") != before.statistics.get("weights", ""):
            raise ArtifactError(
                f"{name}: the encoder has other weights than when the model was trained, and its vectors "
                "would mean something else; install those of then, or embed and train again"
            )
    if not found:
        raise ArtifactError(
            "the model's vectors were brought in ready-made, and nothing tells how to make such of new items; train it "
            "on vectors of embed_text or embed_image"
        )
    return found


def fused(model: Path, vectors: Mapping[str, Batch]) -> NDArray[np.float32]:
    """Fused vectors [N, V], zero where an item has none.

    Args:
        model: The model's folder.
        vectors: Of every modality, in memory.

    Raises:
        ArtifactError: The model's folder has no fuser.
    """
    if not (model / FOLDER / FUSER).is_file():
        raise ArtifactError(f"{model}: keeps no fuser; train it again, with --embeddings beside --codes")
    fuser = load_fuser(model / FOLDER)
    lengths: dict[str, int] = dict(json.loads((model / FOLDER / FUSER).read_bytes())["modalities"])
    n_items = len(next(iter(vectors.values())).item_ids)
    rows = {name: np.zeros((n_items, length), np.float32) for name, length in lengths.items()}
    present = {name: np.zeros(n_items, np.bool_) for name in lengths}
    for name in lengths.keys() & vectors.keys():
        if vectors[name].present.any():  # otherwise its vectors are a single zero each
            rows[name], present[name] = vectors[name].vectors_ND, vectors[name].present
    return fuser.fuse(rows, present)


def codes_of(
    model: Path,
    vectors: Mapping[str, NDArray[np.float32]],
    known_ML: NDArray[np.int32],
    sizes: tuple[int, ...],
) -> tuple[NDArray[np.int32], int]:
    """Semantic IDs [N, L + 1] of new items, and how many of them share theirs with another item.

    A position tells an item from those of equal codes, while there is one left: the model has learnt no more of them.

    Args:
        model: The model's folder.
        vectors: The fused ones under "", and those of every modality under its name.
        known_ML: Semantic IDs of the items that the model has, the position last.
        sizes: Codes per level, of the position last.

    Raises:
        ArtifactError: The folder has no quantizer, or a modality that it codes is missing.
    """
    place = model / FOLDER
    if not (place / QUANTIZER).is_file():
        raise ArtifactError(f"{model}: keeps no quantizer, since its codes were not made by `quantize`")
    towers = json.loads((place / QUANTIZER).read_bytes()).get("towers", [""])
    if missing := set(towers) - vectors.keys():
        raise ArtifactError(f"{model}: codes {', '.join(sorted(missing))} apart, and no new item has any")
    codes_NL = np.concatenate(
        [code(load_quantizer(place / tower), every_row(vectors[tower]))[0] for tower in towers], axis=1
    )
    taken: dict[tuple[int, ...], int] = {}
    for *codes, position in known_ML.tolist():
        taken[tuple(codes)] = max(taken.get(tuple(codes), 0), position + 1)
    positions, shared = np.zeros(len(codes_NL), np.int32), 0
    for row, codes in enumerate(map(tuple, codes_NL.tolist())):
        position = taken.get(codes, 0)
        positions[row] = min(position, sizes[-1] - 1)
        shared += position >= sizes[-1]
        taken[codes] = position + 1
    return np.column_stack([codes_NL, positions]).astype(np.int32), shared


def _copy(source: Path, names: list[str], model: Path) -> None:
    for name in names:
        target = model / FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)


def _made_by(model: Manifest, stage: str) -> Ancestor | None:
    """The artifact of a stage that the model's vectors come from."""
    found = [one for one in _behind(model, model.inputs) if one.stage == stage]
    return found[0] if found else None


def _behind(model: Manifest, inputs: Mapping[str, str]) -> list[Ancestor]:
    """All ancestors over the edges that tell of items; not those of a model that it started from."""
    found = []
    for edge, digest in inputs.items():
        if edge != "pretrained" and digest in model.lineage:
            ancestor = model.lineage[digest]
            found += [ancestor, *_behind(model, ancestor.inputs)]
    return found


def settings_of(model: Manifest, stage: str) -> dict[str, Any]:
    """The settings of a stage behind the model; empty where it has none."""
    ancestor = _made_by(model, stage)
    return ancestor.config if ancestor is not None else {}
