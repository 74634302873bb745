"""Thirty small pipelines in a row, each under another fault: memory stays flat, and every one ends with the same bits.

`python -m tests.faults.soak [ROUNDS]` prints one line a round and fails where a result differs, something is left
behind, or memory grows. Every stage takes its inputs from the bucket and delivers its output there, through a proxy.
"""

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from modalrec.artifacts import manifest
from modalrec.artifacts.embedded import BUCKET, EmbeddedStore
from modalrec.artifacts.s3 import Store
from modalrec.artifacts.store import delivered, localized
from modalrec.config import resolve
from modalrec.errors import UpstreamError
from modalrec.run import Run
from modalrec.stages import load_stage
from modalrec.testing.faults import Fault, FaultServer, faulty
from modalrec.training import checkpoint
from tests.faults.processes import Moments, in_child
from tests.raw import histories, write_atomic
from tests.stores import Revived, revived

ROUNDS = 30
GROWTH = 1.05
"""The last third of the rounds may take so much more memory than the second."""

CHAIN: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "ingest": (
        {"min_user_events": 3, "min_item_events": 1, "splits": ["leave_one_out"]},
        {},
        "dataset",
    ),
    "embed_text": (
        {"encoder": {"name": "hashing", "dimension": 16}, "batch_size": 8},
        {"dataset": "dataset"},
        "text_embeddings",
    ),
    "quantize": (
        {"quantizer": {"levels": 2, "codebook_size": 8, "hidden": [16], "width": 8}, "training": {"epochs": 3}},
        {"embeddings": "text_embeddings"},
        "codes",
    ),
    "finetune": (
        {
            "recommender": {"name": "encoder_decoder", "width": 8, "layers": 1, "heads": 2, "history": 8},
            "training": {"epochs": 3, "batch_size": 8},
        },
        {"dataset": "dataset", "codes": "codes"},
        "model",
    ),
    "evaluate": (
        {"list_length": 12, "cutoffs": [1, 5, 10], "gallery_users": 2, "bootstrap_samples": 100},
        {"dataset": "dataset", "codes": "codes", "model": "model"},
        "evaluation",
    ),
}
"""From stage to its settings, the edges it reads, by name of the artifact, and the one it writes."""

TROUBLES: dict[str, list[Fault] | dict[str, Any]] = {
    "none": [],
    "503 now and then": [Fault("status", status=503, method=method, times=4) for method in ("GET", "PUT", "HEAD")],
    "connections reset": [Fault("reset", method=method, times=2) for method in ("GET", "PUT", "DELETE")],
    "answers truncated": [Fault("truncate", times=2), Fault("empty", times=2)],
    "bits flipped": [Fault("corrupt", path="parquet", times=2), Fault("short", path="manifest", times=2)],
    "uploads cut half way": [Fault("cut", method="PUT", times=2), Fault("lost", method="PUT", times=2)],
    "training killed": {"at": 4},
    "training killed as it delivers": {"at": 12},
    "training terminated": {"at": 5, "number": signal.SIGTERM},
    "the store killed": [],
}


def run_stage(
    stage: str, place: str, raw: str, env: Mapping[str, str], moments: Mapping[str, Any] | None = None
) -> None:
    """One stage from the bucket to the bucket; in a process of its own it may be killed at a moment."""
    os.environ.update(env)
    torch.set_num_threads(1)
    checkpoint.code_version = manifest.code_version = lambda: "one"
    settings, edges, output = CHAIN[stage]
    function, config = load_stage(stage)
    with ExitStack() as stack:
        given = {edge: stack.enter_context(localized(f"{place}/{name}")) for edge, name in edges.items()}
        if stage == "ingest":
            given["source"] = Path(raw)
        if moments:
            Moments(**moments).watch()
        given[output] = stack.enter_context(delivered(f"{place}/{output}"))
        checkpoints = f"{place}/checkpoints"
        run = Run(stage, seed=5, device="cpu", quiet=True, checkpoints=checkpoints, checkpoint_seconds=0)
        function(**given, config=resolve(config, settings), run=run)


def run_chain(trouble: str, place: str, raw: str, store: Revived, proxy: FaultServer) -> None:
    """All stages under one trouble."""
    told = TROUBLES[trouble]
    env = {**store.store.env(), "AWS_ENDPOINT_URL": proxy.url}
    proxy.faults = [Fault(**vars(fault)) for fault in told] if isinstance(told, list) else []
    for stage in CHAIN:
        if stage == "finetune" and isinstance(told, dict):
            ended = in_child(run_stage, stage, place, raw, env, told)
            assert ended == (128 + signal.SIGTERM if "number" in told else -signal.SIGKILL), ended
        if stage == "finetune" and trouble == "the store killed":
            store.kill()
            store.revive(after=0.3)
            retried(stage, place, raw, env)
        else:
            run_stage(stage, place, raw, env)


def retried(stage: str, place: str, raw: str, env: Mapping[str, str], times: int = 20) -> None:
    """A stage as a cluster runs it: begun again where a service was away."""
    for _ in range(times):
        try:
            return run_stage(stage, place, raw, env)
        except UpstreamError:
            time.sleep(1)
    raise UpstreamError(f"{stage}: the store did not come back")


def digests(place: str, store: Store) -> dict[str, str]:
    """From every file of every artifact that counts to its digest."""
    found = {}
    for _, _, output in CHAIN.values():
        content = store.get_bytes(f"{place}/{output}/manifest.json")
        files = manifest.Manifest.model_validate_json(content).files
        found |= {f"{output}/{name}": file.sha256 for name, file in files.items()}
    return found


def left_behind(place: str, store: Store) -> list[str]:
    """What should have been given back: leases, and temporary files of this run."""
    leases = [name for name in store.names(place) if "lease-" in name]
    return leases + [path.name for path in Path(tempfile.gettempdir()).glob("modalrec-*")]


def resident() -> float:
    """MiB that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def soak(rounds: int, folder: Path) -> list[float]:
    """Runs them all, and gives the memory behind each round."""
    raw = str(write_atomic(folder / "raw", histories(24, 12), 12))
    in_child(resident)  # the server of processes begins, with a folder of its own
    tempfile.tempdir = str(folder)
    memory: list[float] = []
    with EmbeddedStore(folder / "store") as store, faulty(store.endpoint) as proxy, revived(store) as killed:
        first: dict[str, str] = {}
        for number in range(rounds):
            trouble, place = list(TROUBLES)[number % len(TROUBLES)], f"s3://{BUCKET}/round-{number}"
            begin = time.monotonic()
            proxy.requests.clear()
            run_chain(trouble, place, raw, killed, proxy)
            found = digests(place, store.store())
            first = first or found
            other = {name for name in first if found.get(name) != first[name]} | found.keys() - first.keys()
            assert not other, f"round {number + 1}, {trouble}: other bits in {', '.join(sorted(other))}"
            assert left_behind(place, store.store()) == []
            store.store().delete_folder(place)
            memory.append(resident())
            seconds = time.monotonic() - begin
            print(
                f"{number + 1:3} {trouble:32} {seconds:5.1f} s  {memory[-1]:6.0f} MiB  the same bits  "
                f"{len(proxy.requests)} requests",
                flush=True,
            )
    return memory


def main(rounds: int) -> None:
    """Runs them, and refuses memory that grows."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        memory = soak(rounds, Path(folder))
    third = max(1, rounds // 3)
    before, last = (max(part) for part in (memory[third : 2 * third] or memory, memory[-third:]))
    print(f"{rounds} rounds, nothing lost; memory of the second third {before:.0f} MiB, of the last {last:.0f} MiB")
    if last > GROWTH * before:
        sys.exit(f"memory grew by more than {GROWTH - 1:.0%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
