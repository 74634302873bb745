"""Embedding in parts under kfp.local: the join is what one step makes of all items, and one part is not joined."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
from kfp import dsl

from components.configure.component import configure
from components.ingest.component import ingest
from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.embeddings import NAME
from modalrec.config import resolve
from modalrec.run import Run
from modalrec.stages import load_stage
from pipelines.fan_out import embedded
from pipelines.placement import Accelerator
from pipelines.runner.local import LocalRun
from tests.raw import write_atomic

STAGES = ["ingest", "embed_text", "embed_image", "fuse", "finetune", "evaluate"]
HASHING = {"encoder": {"name": "hashing"}}


@dsl.pipeline(name="parts")
def pipeline(source: str, settings: dict) -> None:
    config = configure(preset="tiny", settings=settings, controls=False, stages=STAGES).outputs
    dataset = ingest(source=source, config=config["ingest"], seed=0).outputs["dataset"]
    embedded(dataset, config, 0, Accelerator("nvidia.com/gpu", 1, {}, [], "1Gi"))


def test_parts_are_embedded_apart_and_joined(tmp_path: Path) -> None:
    """Texts in two parts, pictures in one: the same vectors as of one step, and no step more than needed."""
    shown = io.StringIO()
    given = {"source": str(write_atomic(tmp_path / "raw")), "settings": {"embed_text": {"parts": 2}}}
    with EmbeddedStore(tmp_path / "out" / "store") as server:
        LocalRun("parts", pipeline, given, tmp_path / "out", stream=shown).run()
        addresses = json.loads((tmp_path / "out" / "parts" / "artifacts.json").read_text())
        steps = ["configure", "ingest", "embed_text 1 of 2", "embed_text 2 of 2", "join text_embeddings", "embed_image"]
        done = [line[6:28].strip() for line in shown.getvalue().splitlines() if " done in " in line]
        assert sorted(done) == sorted(steps)
        assert sorted(addresses) == sorted(steps[1:])
        store = server.store()
        store.get(addresses["ingest"]["dataset"], tmp_path / "dataset")
        store.get(addresses["join text_embeddings"]["embeddings"], tmp_path / "joined")
        store.get(addresses["embed_image"]["image_embeddings"], tmp_path / "pictures")
    for stage, made in (("embed_text", "joined"), ("embed_image", "pictures")):
        function, config_class = load_stage(stage)
        run = Run(stage, device="cpu", quiet=True)
        function(tmp_path / "dataset", tmp_path / stage, config=resolve(config_class, HASHING), run=run)
        assert pq.read_table(tmp_path / made / NAME).equals(pq.read_table(tmp_path / stage / NAME))
