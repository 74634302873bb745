"""The manifest: what an artifact folder is, how it was made, and the digests of its files.

`manifest.json` is written last, after what is made from it: TensorBoard's events, and a model's card. The digest over
everything in it but costs and lineage is the artifact's identity: it keys caches and checkpoints. A report tells of the
costs too, so it is none of the files that count: the same run twice has the same identity.
"""

import functools
import hashlib
import json
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import modalrec
from modalrec.artifacts.card import write_card
from modalrec.artifacts.events import write_events
from modalrec.artifacts.files import folder_in_place, sha256_file, sha256_json, write_json
from modalrec.config import Config, dump
from modalrec.errors import ArtifactError

SCHEMA_VERSIONS = {"dataset": 1, "embeddings": 1, "codes": 1, "model": 1, "evaluation": 1, "comparison": 1}
NAME = "manifest.json"
REPORT = "report.html"
SUMMARY = "summary.md"


class File(Config):
    """Size and digest of one file."""

    sha256: str
    bytes: int


class Ancestor(Config):
    """An artifact that this one was made from, directly or not."""

    kind: str
    stage: str
    config: dict[str, Any]
    inputs: dict[str, str]
    statistics: dict[str, Any]
    cost: dict[str, float]


class Manifest(Config):
    """What `manifest.json` holds.

    Attributes:
        kind: dataset, embeddings, codes, model, evaluation or comparison.
        schema_version: Of the kind's files; a reader refuses versions it does not know.
        stage: The stage that made it.
        config: The stage's configuration, every default written out.
        seed: The run's seed.
        code_version: Version of modalrec and a digest of its sources.
        inputs: From edge name to the digest of the artifact that came in.
        files: From relative path to size and SHA-256.
        statistics: What the stage counted and measured.
        digest: The identity: SHA-256 over all fields above.
        cost: Seconds and peak memory (MiB) of the stage; no part of the identity.
        lineage: All ancestors by digest; no part of the identity, since `inputs` covers them.
    """

    kind: str
    schema_version: int
    stage: str
    config: dict[str, Any]
    seed: int
    code_version: str
    inputs: dict[str, str]
    files: dict[str, File]
    statistics: dict[str, Any]
    digest: str
    cost: dict[str, float]
    lineage: dict[str, Ancestor]

    def identity(self) -> str:
        """The digest that the manifest's content should have."""
        return sha256_json(self.model_dump(mode="json", exclude={"digest", "cost", "lineage"}))

    def parent(self, edge: str) -> "Manifest":
        """What was given at an edge, as far as this artifact carries it: all but its files."""
        digest = self.inputs[edge]
        behind = {key: ancestor for key, ancestor in self.lineage.items() if key != digest}
        return Manifest.model_construct(**vars(self.lineage[digest]), digest=digest, lineage=behind)

    def ancestor(self) -> Ancestor:
        """This artifact as its descendants carry it."""
        return Ancestor(**{name: getattr(self, name) for name in Ancestor.model_fields})


@dataclass
class Stage:
    """A stage at work: where it puts its output and what it has to say of it; costs are no part of the identity."""

    folder: Path
    statistics: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)


def read_manifest(folder: Path, kind: str, *, verify: bool = True) -> Manifest:
    """Reads the manifest of an artifact folder and checks the folder against it.

    Args:
        folder: The artifact.
        kind: The kind that the caller can use.
        verify: Compare the SHA-256 of every file; sizes are always compared.

    Raises:
        ArtifactError: No manifest, another kind or schema version, or a file that is missing or damaged.
    """
    path = folder / NAME
    if not path.is_file():
        state = "is not a folder" if not folder.is_dir() else f"has no {NAME}"
        raise ArtifactError(f"{folder}: {state}; give the output folder of the stage that makes `{kind}`")
    try:
        manifest = Manifest.model_validate(json.loads(path.read_bytes()))
    except (ValueError, RecursionError, ValidationError):
        raise ArtifactError(f"{path}: not a manifest; run the stage that makes `{kind}` again") from None
    if manifest.digest != manifest.identity():
        raise ArtifactError(f"{path}: changed after it was written; run `{manifest.stage}` again")
    if manifest.kind != kind:
        raise ArtifactError(
            f"{folder}: is of kind `{manifest.kind}` (made by {manifest.stage}), `{kind}` is needed here"
        )
    if manifest.schema_version != SCHEMA_VERSIONS[kind]:
        raise ArtifactError(
            f"{folder}: schema version {manifest.schema_version} of `{kind}`, this modalrec reads "
            f"{SCHEMA_VERSIONS[kind]}; run `{manifest.stage}` again with this version"
        )
    for name, file in manifest.files.items():
        _check(folder, name, file, manifest.stage, verify)
    return manifest


@contextmanager
def write_artifact(
    folder: Path,
    kind: str,
    *,
    stage: str,
    config: Config,
    seed: int,
    inputs: Mapping[str, Manifest],
) -> Iterator[Stage]:
    """Yields a building place for an artifact; on success it gets its manifest and takes its place, atomically.

    Raises:
        ArtifactError: The folder exists and is not empty.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ArtifactError(f"{folder}: exists and is not empty; remove it or name another folder")
    begin = time.monotonic()
    with folder_in_place(folder) as building:
        work = Stage(building)
        yield work
        paths = sorted(path for path in building.rglob("*") if path.is_file() and path != building / REPORT)
        fields: dict[str, Any] = {
            "kind": kind,
            "schema_version": SCHEMA_VERSIONS[kind],
            "stage": stage,
            "config": dump(config),
            "seed": seed,
            "code_version": code_version(),
            "inputs": {edge: manifest.digest for edge, manifest in inputs.items()},
            "files": {str(p.relative_to(building)): File(sha256=sha256_file(p), bytes=p.stat().st_size) for p in paths},
            "statistics": json.loads(json.dumps(work.statistics)),
            "cost": {
                "seconds": round(time.monotonic() - begin, 3),
                "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                **work.cost,
            },
            "lineage": _lineage(inputs),
        }
        manifest = Manifest(**fields, digest="")
        manifest = manifest.model_copy(update={"digest": manifest.identity()})
        write_events(building, manifest)
        if kind == "model":
            write_card(building, manifest)
        write_json(building / NAME, manifest.model_dump(mode="json"))


@functools.cache
def code_version() -> str:
    """The release and a digest of the package's sources, so that a changed program never reuses old results."""
    digest = hashlib.sha256()
    root = Path(modalrec.__file__).parent
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.yaml"), *root.rglob("*.html")]):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return f"{modalrec.__version__}+{digest.hexdigest()[:12]}"


def _lineage(inputs: Mapping[str, Manifest]) -> dict[str, Ancestor]:
    lineage: dict[str, Ancestor] = {}
    for manifest in inputs.values():
        lineage |= manifest.lineage
        lineage[manifest.digest] = manifest.ancestor()
    return lineage


def _check(folder: Path, name: str, file: File, stage: str, verify: bool) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ArtifactError(f"{folder}: the manifest names {name!r}, outside the folder; run `{stage}` again")
    if not path.is_file():
        raise ArtifactError(f"{path}: is missing; run `{stage}` again")
    if path.stat().st_size != file.bytes:
        raise ArtifactError(f"{path}: has {path.stat().st_size} bytes instead of {file.bytes}; run `{stage}` again")
    if verify and sha256_file(path) != file.sha256:
        raise ArtifactError(f"{path}: damaged, its SHA-256 is not the manifest's; run `{stage}` again")
