"""Joining embeddings that were made in parts: what comes out is what one stage would have made of all items."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modalrec.artifacts import Manifest, read_manifest, write_artifact
from modalrec.artifacts.embeddings import NAME
from modalrec.artifacts.schemas import embedding_lists, stream
from modalrec.artifacts.schemas import embeddings as one_vector
from modalrec.config import resolve
from modalrec.errors import ArtifactError
from modalrec.run import Run
from modalrec.stages import load_stage

ROWS = 8192
COUNTS = ("items", "present", "missing", "distinct", "vectors")
"""Statistics that add up; contents that several parts have are distinct in each."""


def join(parts: Sequence[Path], embeddings: Path, *, run: Run) -> dict[str, float]:
    """Joins the parts of one embedding, read some rows at a time.

    Args:
        parts: All parts, in any order.
        embeddings: Where to write the vectors of all items, in the dataset's order.
        run: The stage's run.

    Returns:
        items, present, missing, distinct, dimension; of lists also the number of vectors.

    Raises:
        ArtifactError: A part is damaged, missing or given twice, or was made from another dataset, with other settings
            or by another version.
    """
    found = sorted(((read_manifest(part, "embeddings"), part) for part in parts), key=lambda one: one[0].config["part"])
    manifests = [manifest for manifest, _ in found]
    _refuse_foreign(manifests)
    first = manifests[0]
    config = resolve(load_stage(first.stage)[1], {**first.config, "part": 0, "parts": 1}, where=first.stage)
    filled = [manifest for manifest in manifests if manifest.statistics["present"]] or manifests
    dimension, lists = int(filled[0].statistics["dimension"]), "vectors" in filled[0].statistics
    schema = (embedding_lists if lists else one_vector)(dimension)
    inputs = {edge: first.parent(edge) for edge in first.inputs}
    with write_artifact(
        embeddings, "embeddings", stage=first.stage, config=config, seed=first.seed, inputs=inputs
    ) as artifact:
        with pq.ParquetWriter(
            artifact.folder / NAME, schema, compression="zstd" if lists else "none", use_dictionary=False
        ) as writer:
            for _, part in run.track(found, "parts"):
                with pq.ParquetFile(part / NAME) as file:
                    for batch in stream(file, ROWS):
                        writer.write_table(_as(batch, schema), row_group_size=ROWS)
        artifact.statistics |= filled[0].statistics
        for name in COUNTS:
            if name in artifact.statistics:
                artifact.statistics[name] = sum(int(one.statistics.get(name, 0)) for one in manifests)
    return {name: float(artifact.statistics[name]) for name in (*COUNTS, "dimension") if name in artifact.statistics}


def _refuse_foreign(manifests: Sequence[Manifest]) -> None:
    """Checks that these are all parts of one embedding."""
    expected = int(manifests[0].config["parts"]) if manifests else 1
    numbers = [int(manifest.config["part"]) for manifest in manifests]
    if numbers != list(range(expected)):
        given = ", ".join(map(str, numbers)) or "none"
        raise ArtifactError(f"join: parts {given} are given, and 0 to {expected - 1} are needed; give each part once")
    for manifest in manifests[1:]:
        for name, mine, others in (
            ("the stage", manifest.stage, manifests[0].stage),
            ("the dataset", manifest.inputs, manifests[0].inputs),
            ("the seed", manifest.seed, manifests[0].seed),
            ("the version of the code", manifest.code_version, manifests[0].code_version),
            ("the settings", {**manifest.config, "part": 0}, manifests[0].config),
            *(
                (name, manifest.statistics[name], one.statistics[name])
                for one in manifests
                for name in ("dimension", "weights", "precision")
                if manifest.statistics["present"] and one.statistics["present"] and name in one.statistics
            ),
        ):
            if mine != others:
                raise ArtifactError(
                    f"join: {name} of part {manifest.config['part']} is another one than that of part 0; embed all "
                    "parts again in one go"
                )


def _as(batch: Any, schema: Any) -> Any:
    """Rows of a part in the form of the whole; a part without any content has vectors of another length."""
    if batch.schema.field("embedding").type == schema.field("embedding").type:
        return pa.Table.from_batches([batch]).cast(schema)
    kind, rows = schema.field("embedding").type, len(batch)
    if pa.types.is_list(kind):
        nothing = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(0, np.float32)), kind.value_type.list_size)
        vectors = pa.ListArray.from_arrays(pa.array(np.zeros(rows + 1, np.int32)), nothing)
    else:
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(np.zeros(rows * kind.list_size, np.float32)), kind.list_size
        )
    return pa.Table.from_arrays([batch.column("item_id"), batch.column("present"), vectors], schema=schema)
